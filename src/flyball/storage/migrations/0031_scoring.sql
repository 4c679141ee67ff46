-- Scorings of whole tables: what each run covers, and which of its parts are written.
CREATE TABLE scoring_job (
    id TEXT PRIMARY KEY,
    id_prefix TEXT NOT NULL UNIQUE,
    out TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at_us INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX scoring_job_out ON scoring_job (out, started_at_us);
CREATE TABLE scoring_part (
    job_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    reasons TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
);
