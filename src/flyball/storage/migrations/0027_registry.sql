-- Models by name. A row is there as long as clients see the model; versions outlive it, so that the past can be told.
CREATE TABLE registry_model (
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL,
    PRIMARY KEY (name)
);
CREATE INDEX registry_model_updated ON registry_model (updated_at_us, name);
INSERT INTO registry_model (name, description, created_at_us, updated_at_us)
SELECT model, '', min(created_at_us), max(created_at_us) FROM registry_version GROUP BY model;
CREATE TABLE registry_model_tag (
    model TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, name)
);
CREATE INDEX registry_model_tag_value ON registry_model_tag (name, substr(value, 1, 60), model);
CREATE TABLE registry_version_tag (
    model TEXT NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, number, name)
);
CREATE INDEX registry_version_tag_value ON registry_version_tag (name, substr(value, 1, 60), model, number);
-- Of versions that clients register: what they were made from, where their files are, and what the files are.
ALTER TABLE registry_version ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE registry_version ADD COLUMN location TEXT NOT NULL DEFAULT '';
ALTER TABLE registry_version ADD COLUMN content_digest TEXT NOT NULL DEFAULT '';
ALTER TABLE registry_version ADD COLUMN logged_model TEXT NOT NULL DEFAULT '';
ALTER TABLE registry_version ADD COLUMN run_link TEXT NOT NULL DEFAULT '';
ALTER TABLE registry_version ADD COLUMN stage TEXT NOT NULL DEFAULT 'None';
ALTER TABLE registry_version ADD COLUMN updated_at_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE registry_version ADD COLUMN deleted_at_us INTEGER;
UPDATE registry_version SET updated_at_us = created_at_us;
CREATE INDEX registry_version_newest ON registry_version (updated_at_us DESC, model, number DESC)
WHERE deleted_at_us IS NULL;
CREATE INDEX registry_version_of_model ON registry_version (model, updated_at_us, number) WHERE deleted_at_us IS NULL;
CREATE INDEX registry_version_stage ON registry_version (model, stage, number) WHERE deleted_at_us IS NULL;
-- What aliases mean now; how they came to mean it is in registry_alias.
CREATE TABLE registry_alias_now (
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (model, alias)
);
CREATE INDEX registry_alias_now_version ON registry_alias_now (model, number);
INSERT INTO registry_alias_now (model, alias, number)
SELECT model, alias, number FROM (
    SELECT model, alias, number,
        row_number() OVER (PARTITION BY model, alias ORDER BY event_time_us DESC, event DESC) AS place
    FROM registry_alias
) AS moves WHERE place = 1 AND number IS NOT NULL;
-- What versions of a model must meet, as the project's endpoints declared it last.
CREATE TABLE registry_plan (
    model TEXT NOT NULL,
    gates TEXT NOT NULL,
    PRIMARY KEY (model)
);
-- Models that clients log to experiments before, or without, registering them.
CREATE TABLE registry_logged_model (
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    experiment_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    model_type TEXT NOT NULL,
    run_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL,
    deleted_at_us INTEGER,
    PRIMARY KEY (number),
    UNIQUE (id)
);
CREATE INDEX registry_logged_model_experiment ON registry_logged_model (experiment_id, created_at_us, number)
WHERE deleted_at_us IS NULL;
CREATE INDEX registry_logged_model_run ON registry_logged_model (run_id);
CREATE TABLE registry_logged_param (
    model INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, name)
);
CREATE TABLE registry_logged_tag (
    model INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, name)
);
