"""Ground floor: errors, clock, ids, hashing, durations, encoding, files, settings. Knows no other room."""
