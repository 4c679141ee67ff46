-- Versions that clients registered and that wait for a package and for their gates: looked for with every turn of the loop.
CREATE INDEX registry_version_waiting ON registry_version (model, number)
WHERE package_digest = '' AND status = 'candidate' AND deleted_at_us IS NULL;
-- Versions of a logged model: a logged model tells what it was registered as.
CREATE INDEX registry_version_logged ON registry_version (logged_model, model, number) WHERE logged_model <> '';
