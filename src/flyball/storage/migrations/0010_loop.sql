-- What the loop set in motion: one row for a cause and an endpoint, so that no cause acts twice.
CREATE TABLE loop_reaction (
    cause INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    reason TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at_us INTEGER NOT NULL,
    finished_at_us INTEGER,
    run_id TEXT,
    error TEXT,
    event_seq INTEGER,
    PRIMARY KEY (endpoint, cause)
);
CREATE INDEX loop_reaction_started ON loop_reaction (endpoint, started_at_us);
CREATE TABLE loop_watermark (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
