"""Tables where they lie: which files a source consists of, and how to scan them. One file a format."""
