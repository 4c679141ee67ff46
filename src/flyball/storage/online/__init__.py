"""The newest row of each entity, kept for the request path; one file a backend."""
