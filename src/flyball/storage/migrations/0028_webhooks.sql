-- Addresses that clients of the MLflow protocol want to be told at what happens in the registry.
CREATE TABLE monitoring_webhook (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    secret TEXT NOT NULL,
    is_active INTEGER NOT NULL,
    created_at_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX monitoring_webhook_created ON monitoring_webhook (created_at_us, id);
