"""What was asked, answered and turned out: the log, its sealed segments, labels."""
