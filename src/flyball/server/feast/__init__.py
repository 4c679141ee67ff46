"""Feast's protocol over HTTP, version 0.67: its ``remote`` online store reads from and writes to Flyball."""
