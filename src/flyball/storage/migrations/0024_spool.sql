-- the room tracking: how many of a run's spooled records are kept, so that none is kept twice
CREATE TABLE tracking_received (
    run_id TEXT PRIMARY KEY,
    records INTEGER NOT NULL
);
