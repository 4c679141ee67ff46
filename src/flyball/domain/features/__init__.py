"""Entities' features: declared once, joined point-in-time for training, kept online for live requests."""
