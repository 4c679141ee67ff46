"""The graph derived from the journal: what came from what, and what it reached."""
