CREATE TABLE monitoring_tile (
    endpoint TEXT NOT NULL,
    size_us INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    version TEXT NOT NULL,
    variant TEXT NOT NULL,
    counts TEXT NOT NULL,
    PRIMARY KEY (endpoint, size_us, start_us, version, variant)
);
CREATE TABLE monitoring_recent (
    seq INTEGER PRIMARY KEY,
    endpoint TEXT NOT NULL,
    version TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    prediction REAL NOT NULL
);
CREATE INDEX monitoring_recent_newest ON monitoring_recent (endpoint, version, at_us);
CREATE TABLE monitoring_finding (
    endpoint TEXT NOT NULL,
    monitor TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    state TEXT NOT NULL,
    value REAL,
    finding TEXT NOT NULL,
    PRIMARY KEY (endpoint, monitor, at_us)
);
CREATE TABLE monitoring_alert (
    endpoint TEXT NOT NULL,
    monitor TEXT NOT NULL,
    is_raised INTEGER NOT NULL,
    evaluated_us INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    alert TEXT NOT NULL,
    PRIMARY KEY (endpoint, monitor)
);
CREATE TABLE monitoring_notifier (
    name TEXT PRIMARY KEY,
    first_used_us INTEGER NOT NULL
);
CREATE TABLE monitoring_delivery (
    notifier TEXT NOT NULL,
    event INTEGER NOT NULL,
    rounds INTEGER NOT NULL,
    next_at_us INTEGER,
    error TEXT NOT NULL,
    PRIMARY KEY (notifier, event)
);
