-- The columns of each version of a feature view, so that live requests can be completed without its code.
CREATE TABLE feature_view (
    view_key TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    columns TEXT NOT NULL,
    created_at_us INTEGER NOT NULL
);
-- Up to when, and from which content, the online rows of each version of a view are written.
CREATE TABLE feature_materialisation (
    view_key TEXT PRIMARY KEY,
    snapshot TEXT NOT NULL,
    source TEXT NOT NULL,
    as_of_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL
);
