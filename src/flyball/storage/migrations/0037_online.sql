-- When a version of a view was last brought up to date, to the day; 0 for those from before this was kept.
ALTER TABLE feature_view ADD COLUMN used_at_us INTEGER NOT NULL DEFAULT 0;
