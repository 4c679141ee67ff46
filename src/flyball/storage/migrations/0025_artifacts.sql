-- Files of runs, of logged models and of any other place that clients put files in.
-- owner: a run's or a logged model's id; empty for files below an address of another shape.
-- folder: the path between, without slashes at its ends; empty for the owner's own files.

ALTER TABLE tracking_artifact RENAME TO tracking_artifact_before;

CREATE TABLE tracking_artifact (
    owner TEXT NOT NULL,
    folder TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (owner, folder, name)
);

-- What is left of a name without its last segment: all signs but slashes are taken off its end.
INSERT INTO tracking_artifact (owner, folder, name, digest, size_bytes)
SELECT run_id, rtrim(before, '/'), substr(name, length(before) + 1), digest, size_bytes
FROM (SELECT run_id, name, digest, size_bytes, rtrim(name, replace(name, '/', '')) AS before FROM tracking_artifact_before)
    AS split;

DROP TABLE tracking_artifact_before;

CREATE INDEX tracking_artifact_digest ON tracking_artifact (digest);
