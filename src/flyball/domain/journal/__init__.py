"""The spine: append-only, hash-chained events, in two times; cursors; audit."""
