-- the room pipelines: results by key, small values, what each run's steps did
CREATE TABLE pipelines_result (
    key TEXT PRIMARY KEY,
    step TEXT NOT NULL,
    run_id TEXT NOT NULL,
    outputs TEXT NOT NULL,
    notes TEXT NOT NULL,
    seed INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    created_at_us INTEGER NOT NULL
);
CREATE TABLE pipelines_value (
    digest TEXT PRIMARY KEY,
    content BLOB NOT NULL
);
CREATE TABLE pipelines_step (
    run_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    key TEXT,
    seed INTEGER,
    attempts INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    error TEXT NOT NULL,
    traceback TEXT NOT NULL,
    PRIMARY KEY (run_id, position)
);
CREATE TABLE pipelines_last (
    pipeline TEXT NOT NULL,
    step TEXT NOT NULL,
    run_id TEXT NOT NULL,
    status TEXT NOT NULL,
    parts TEXT NOT NULL,
    PRIMARY KEY (pipeline, step)
);
CREATE TABLE pipelines_file (
    path TEXT PRIMARY KEY,
    stat TEXT NOT NULL,
    digest TEXT NOT NULL
);
CREATE TABLE pipelines_certificate (
    pipeline TEXT NOT NULL,
    params TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (pipeline, params)
);
