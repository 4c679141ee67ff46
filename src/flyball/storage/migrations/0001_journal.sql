CREATE TABLE journal_event (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    event_time_us INTEGER NOT NULL,
    recorded_at_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    cause INTEGER,
    data TEXT NOT NULL,
    previous TEXT NOT NULL,
    digest TEXT NOT NULL
);
CREATE INDEX journal_event_subject ON journal_event (subject, seq);
CREATE INDEX journal_event_kind ON journal_event (kind, seq);
CREATE TABLE journal_cursor (
    name TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
);
