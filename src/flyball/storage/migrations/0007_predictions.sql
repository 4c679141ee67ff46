-- Where sealed predictions are: one row for each Parquet file, its path relative to the folder of predictions.
CREATE TABLE prediction_segment (
    path TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL,
    day TEXT NOT NULL,
    first_id TEXT NOT NULL,
    last_id TEXT NOT NULL,
    first_at_us INTEGER NOT NULL,
    last_at_us INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    sealed_at_us INTEGER NOT NULL
);
CREATE INDEX prediction_segment_ids ON prediction_segment (first_id, last_id);
CREATE INDEX prediction_segment_at ON prediction_segment (endpoint, last_at_us);
CREATE INDEX prediction_segment_day ON prediction_segment (endpoint, day);
-- Open segments whose rows are sealed but whose file may still be there.
CREATE TABLE prediction_sealed_source (
    name TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL
);
-- By what a label finds its prediction: a digest of endpoint, columns and values, and the row's own time.
CREATE TABLE prediction_match (
    match_hash INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    prediction_id TEXT NOT NULL
);
CREATE INDEX prediction_match_hash ON prediction_match (match_hash, time_us);
-- What turned out, in every version: value is JSON, at when it held, known when it became known.
CREATE TABLE prediction_label (
    seq INTEGER PRIMARY KEY,
    endpoint TEXT NOT NULL,
    prediction_id TEXT NOT NULL,
    known_us INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    value TEXT NOT NULL,
    source TEXT NOT NULL,
    recorded_at_us INTEGER NOT NULL,
    UNIQUE (endpoint, prediction_id, known_us, at_us, value)
);
CREATE INDEX prediction_label_seq ON prediction_label (endpoint, seq);
