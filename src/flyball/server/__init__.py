"""Thin shells over the same services: rest, inference; and the processes that run them."""
