-- the room tracking: runs and what they logged
CREATE TABLE tracking_run (
    id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    status TEXT NOT NULL,
    actor TEXT NOT NULL,
    cause INTEGER,
    as_of_us INTEGER,
    started_at_us INTEGER NOT NULL,
    finished_at_us INTEGER,
    error TEXT NOT NULL,
    process TEXT NOT NULL,
    facts TEXT
);
CREATE INDEX tracking_run_pipeline ON tracking_run (pipeline, id);
CREATE INDEX tracking_run_status ON tracking_run (status);
CREATE TABLE tracking_param (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run_id, name)
);
CREATE TABLE tracking_metric (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    step INTEGER NOT NULL,
    logged_at_us INTEGER NOT NULL,
    source TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (run_id, name, step, logged_at_us, source)
);
CREATE TABLE tracking_artifact (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (run_id, name)
);
CREATE TABLE tracking_link (
    run_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    kind TEXT NOT NULL,
    ref TEXT NOT NULL,
    PRIMARY KEY (run_id, direction, kind, ref)
);
CREATE INDEX tracking_link_ref ON tracking_link (kind, ref);
CREATE TABLE tracking_tag (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run_id, name)
);
CREATE TABLE tracking_fact (
    run_id TEXT NOT NULL,
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run_id, source, kind, value)
);
