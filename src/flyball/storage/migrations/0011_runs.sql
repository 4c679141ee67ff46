-- Experiments; a pipeline is the experiment of its name. Number 0 is where a client's runs go that name none.
CREATE TABLE tracking_experiment (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    artifact_location TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL,
    deleted_at_us INTEGER,
    UNIQUE (name)
);
CREATE TABLE tracking_experiment_tag (
    experiment_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (experiment_id, name)
);
INSERT INTO tracking_experiment (id, name, artifact_location, created_at_us, updated_at_us, deleted_at_us)
VALUES (0, 'Default', '', 0, 0, NULL);
INSERT INTO tracking_experiment (id, name, artifact_location, created_at_us, updated_at_us, deleted_at_us)
SELECT row_number() OVER (ORDER BY first_us, pipeline), pipeline, '', first_us, first_us, NULL
FROM (
    SELECT pipeline, min(started_at_us) AS first_us FROM tracking_run WHERE pipeline <> 'Default' GROUP BY pipeline
) AS found;
-- Runs get a number, by which all that is logged finds them: it is short, and the newest rows lie together.
ALTER TABLE tracking_run RENAME TO tracking_run_before;
DROP INDEX tracking_run_pipeline;
DROP INDEX tracking_run_status;
CREATE TABLE tracking_run (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    experiment_id INTEGER NOT NULL,
    maker TEXT NOT NULL,
    status TEXT NOT NULL,
    actor TEXT NOT NULL,
    cause INTEGER,
    as_of_us INTEGER,
    started_at_us INTEGER NOT NULL,
    finished_at_us INTEGER,
    deleted_at_us INTEGER,
    error TEXT NOT NULL,
    process TEXT NOT NULL,
    facts TEXT,
    UNIQUE (id)
);
INSERT INTO tracking_run (number, id, experiment_id, maker, status, actor, cause, as_of_us, started_at_us,
    finished_at_us, deleted_at_us, error, process, facts)
SELECT row_number() OVER (ORDER BY r.id), r.id, e.id, 'flyball', r.status, r.actor, r.cause, r.as_of_us,
    r.started_at_us, r.finished_at_us, NULL, r.error, r.process, r.facts
FROM tracking_run_before AS r JOIN tracking_experiment AS e ON e.name = r.pipeline;
DROP TABLE tracking_run_before;
CREATE INDEX tracking_run_experiment ON tracking_run (experiment_id, started_at_us DESC, id);
CREATE INDEX tracking_run_started ON tracking_run (started_at_us DESC, id);
CREATE INDEX tracking_run_status ON tracking_run (status);
-- Parameters as the text that a person reads; is_json says that it is the JSON of a number, a list and the like.
ALTER TABLE tracking_param RENAME TO tracking_param_before;
CREATE TABLE tracking_param (
    run INTEGER NOT NULL,
    name TEXT NOT NULL,
    experiment_id INTEGER NOT NULL,
    value TEXT NOT NULL,
    is_json INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
INSERT INTO tracking_param (run, name, experiment_id, value, is_json)
SELECT r.number, p.name, r.experiment_id,
    CASE WHEN p.value LIKE '"%' AND backslashes = 0 THEN substr(p.value, 2, length(p.value) - 2) ELSE p.value END,
    CASE WHEN p.value LIKE '"%' AND backslashes = 0 THEN 0 ELSE 1 END
FROM (
    SELECT run_id, name, value, length(value) - length(replace(value, '\', '')) AS backslashes
    FROM tracking_param_before
) AS p JOIN tracking_run AS r ON r.id = p.run_id;
DROP TABLE tracking_param_before;
-- The first signs only: PostgreSQL's indexes hold no long values.
CREATE INDEX tracking_param_value ON tracking_param (experiment_id, name, substr(value, 1, 60), run);
ALTER TABLE tracking_tag RENAME TO tracking_tag_before;
CREATE TABLE tracking_tag (
    run INTEGER NOT NULL,
    name TEXT NOT NULL,
    experiment_id INTEGER NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
INSERT INTO tracking_tag (run, name, experiment_id, value)
SELECT r.number, t.name, r.experiment_id, t.value FROM tracking_tag_before AS t JOIN tracking_run AS r ON r.id = t.run_id;
DROP TABLE tracking_tag_before;
CREATE INDEX tracking_tag_value ON tracking_tag (experiment_id, name, substr(value, 1, 60), run);
-- Every point of every metric, in the order in which clients page through them. SQLite has no NaN: value is 0 then.
CREATE TABLE tracking_point (
    run INTEGER NOT NULL,
    name TEXT NOT NULL,
    logged_at_us INTEGER NOT NULL,
    step INTEGER NOT NULL,
    value REAL NOT NULL,
    is_nan INTEGER NOT NULL,
    source TEXT NOT NULL,
    model_id TEXT,
    dataset_name TEXT,
    dataset_digest TEXT,
    PRIMARY KEY (run, name, logged_at_us, step, value, is_nan, source)
) WITHOUT ROWID;
INSERT INTO tracking_point (run, name, logged_at_us, step, value, is_nan, source)
SELECT r.number, m.name, m.logged_at_us, m.step, coalesce(m.value, 0), CASE WHEN m.value IS NULL THEN 1 ELSE 0 END,
    m.source
FROM tracking_metric AS m JOIN tracking_run AS r ON r.id = m.run_id;
DROP TABLE tracking_metric;
CREATE INDEX tracking_point_model ON tracking_point (model_id, name) WHERE model_id IS NOT NULL;
-- The last point of each metric, by step, then time, then value: what a page of runs shows, filters and sorts by.
CREATE TABLE tracking_latest (
    run INTEGER NOT NULL,
    name TEXT NOT NULL,
    experiment_id INTEGER NOT NULL,
    value REAL NOT NULL,
    is_nan INTEGER NOT NULL,
    step INTEGER NOT NULL,
    logged_at_us INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
INSERT INTO tracking_latest (run, name, experiment_id, value, is_nan, step, logged_at_us)
SELECT p.run, p.name, r.experiment_id, p.value, p.is_nan, p.step, p.logged_at_us
FROM (
    SELECT run, name, value, is_nan, step, logged_at_us,
        row_number() OVER (PARTITION BY run, name ORDER BY step DESC, logged_at_us DESC, is_nan, value DESC) AS place
    FROM tracking_point
) AS p JOIN tracking_run AS r ON r.number = p.run
WHERE p.place = 1;
CREATE INDEX tracking_latest_value ON tracking_latest (experiment_id, name, is_nan, value, run);
-- Datasets that clients' runs read; body is what they tell of them.
CREATE TABLE tracking_dataset (
    number INTEGER PRIMARY KEY,
    experiment_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    source_type TEXT NOT NULL,
    source TEXT NOT NULL,
    schema_text TEXT,
    profile TEXT,
    UNIQUE (experiment_id, name, digest)
);
CREATE TABLE tracking_input (
    run INTEGER NOT NULL,
    dataset INTEGER NOT NULL,
    context TEXT,
    tags TEXT NOT NULL,
    PRIMARY KEY (run, dataset)
);
CREATE INDEX tracking_input_dataset ON tracking_input (dataset);
-- Logged models that runs read or made.
CREATE TABLE tracking_run_model (
    run INTEGER NOT NULL,
    direction TEXT NOT NULL,
    model_id TEXT NOT NULL,
    step INTEGER NOT NULL,
    PRIMARY KEY (run, direction, model_id)
);
CREATE INDEX tracking_run_model_id ON tracking_run_model (model_id)
