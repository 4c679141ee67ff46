"""Four doors to the outside, one file a backend: db, blobs, tables, online."""
