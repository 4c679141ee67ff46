-- The types of each view's keys, so that a number asked as text finds its row.
ALTER TABLE feature_view ADD COLUMN keys TEXT NOT NULL DEFAULT '';
-- Every order of columns in which a version's online rows were ever written; a row says by its tag which one it has.
CREATE TABLE feature_layout (
    view_key TEXT NOT NULL,
    tag TEXT NOT NULL,
    columns TEXT NOT NULL,
    PRIMARY KEY (view_key, tag)
);
