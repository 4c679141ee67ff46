"""Numbered SQL files that make the schema; each is applied once, in order, and never edited after a release."""
