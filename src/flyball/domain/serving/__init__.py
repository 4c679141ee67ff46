"""Endpoints as they answer: the data plane without transport, routing, rollouts."""
