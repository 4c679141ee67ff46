"""Closes the circle: triggers, reactions, rollouts, continuous training, replay."""
