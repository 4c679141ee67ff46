-- When the last row of the content that a view was materialised from became known; null where that was not kept.
ALTER TABLE feature_materialisation ADD COLUMN last_known_us INTEGER;
