-- the room tracking: traces of programs that answer requests step by step, their spans, and what was judged of them
CREATE TABLE tracking_trace (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    experiment_id INTEGER NOT NULL,
    started_at_us INTEGER NOT NULL,
    duration_us INTEGER,
    state TEXT NOT NULL,
    client_request_id TEXT,
    request_preview TEXT,
    response_preview TEXT,
    is_told INTEGER NOT NULL,
    UNIQUE (id)
);
CREATE INDEX tracking_trace_experiment ON tracking_trace (experiment_id, started_at_us DESC, id);
-- What a trace carries by name: kind is tag (can change), metadata (cannot), or run (the name is a run's id).
CREATE TABLE tracking_trace_item (
    trace INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (trace, kind, name)
) WITHOUT ROWID;
CREATE INDEX tracking_trace_item_value ON tracking_trace_item (kind, name, substr(value, 1, 60), trace);
-- The content is the span as OpenTelemetry's JSON of Protocol Buffers.
CREATE TABLE tracking_span (
    trace INTEGER NOT NULL,
    id TEXT NOT NULL,
    parent TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at_ns INTEGER NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (trace, id)
) WITHOUT ROWID;
-- Feedback, expectations and issues; value is JSON, content the whole message.
CREATE TABLE tracking_assessment (
    id TEXT PRIMARY KEY,
    trace INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    is_valid INTEGER NOT NULL,
    created_at_us INTEGER NOT NULL,
    content TEXT NOT NULL
);
CREATE INDEX tracking_assessment_trace ON tracking_assessment (trace, created_at_us, id)
