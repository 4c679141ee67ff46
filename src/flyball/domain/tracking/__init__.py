"""What each run was given, where it ran, what it measured and what it made."""
