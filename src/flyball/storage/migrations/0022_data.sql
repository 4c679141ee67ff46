CREATE TABLE data_watch (
    table_name TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    content_id TEXT NOT NULL,
    row_count INTEGER NOT NULL,
    file_count INTEGER NOT NULL
);
