-- A version's way to live on an endpoint; body is the whole rollout as JSON, the other columns are for finding it.
CREATE TABLE serving_rollout (
    id TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at_us INTEGER NOT NULL,
    ended_at_us INTEGER,
    body TEXT NOT NULL
);
CREATE INDEX serving_rollout_started ON serving_rollout (endpoint, started_at_us);
CREATE UNIQUE INDEX serving_rollout_running ON serving_rollout (endpoint) WHERE status = 'running';
