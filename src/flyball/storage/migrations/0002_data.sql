CREATE TABLE data_file_digest (
    path TEXT PRIMARY KEY,
    stat TEXT NOT NULL,
    digest TEXT NOT NULL
);
CREATE TABLE data_content (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
CREATE TABLE data_snapshot (
    event_seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    table_name TEXT NOT NULL,
    declaration TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (id, table_name)
);
CREATE INDEX data_snapshot_table ON data_snapshot (table_name, event_seq);
CREATE TABLE data_report (
    event_seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    table_name TEXT NOT NULL,
    passed INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (id)
);
CREATE INDEX data_report_snapshot ON data_report (snapshot_id, event_seq);
