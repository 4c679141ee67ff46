"""Brings over what stores of MLflow hold."""
