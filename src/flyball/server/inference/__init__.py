"""Inference over HTTP: thin shells over the data plane."""
