CREATE TABLE registry_version (
    model TEXT NOT NULL,
    number INTEGER NOT NULL,
    status TEXT NOT NULL,
    package_digest TEXT NOT NULL,
    metrics TEXT NOT NULL,
    run_id TEXT NOT NULL,
    lineage TEXT NOT NULL,
    description TEXT NOT NULL,
    evidence TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (model, number)
);
CREATE INDEX registry_version_package ON registry_version (package_digest);
CREATE INDEX registry_version_run ON registry_version (run_id);
CREATE TABLE registry_evidence (
    model TEXT NOT NULL,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    content TEXT NOT NULL,
    recorded_at_us INTEGER NOT NULL,
    PRIMARY KEY (model, number, digest)
);
CREATE TABLE registry_approval (
    event INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    number INTEGER NOT NULL,
    user_name TEXT,
    role TEXT NOT NULL,
    evidence TEXT NOT NULL,
    approved_at_us INTEGER NOT NULL,
    is_void INTEGER NOT NULL
);
CREATE INDEX registry_approval_version ON registry_approval (model, number, event);
CREATE TABLE registry_alias (
    event INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    number INTEGER,
    previous INTEGER,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    event_time_us INTEGER NOT NULL,
    recorded_at_us INTEGER NOT NULL
);
CREATE INDEX registry_alias_name ON registry_alias (model, alias, event_time_us, event);
