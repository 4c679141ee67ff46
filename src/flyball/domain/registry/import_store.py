"""The SQL that brings registered models over from another store."""

from collections.abc import Mapping

from flyball.storage.db import Transaction


def insert_model(tx: Transaction, name: str, description: str, created_at_us: int, updated_at_us: int) -> None:
    """Register a model with its times."""
    tx.send(
        "INSERT INTO registry_model (name, description, created_at_us, updated_at_us) VALUES (?, ?, ?, ?)",
        (name, description, created_at_us, updated_at_us),
    )


def add_model_tags(tx: Transaction, name: str, tags: Mapping[str, str]) -> None:
    """Keep tags that are not there yet."""
    tx.execute_many(
        "INSERT INTO registry_model_tag (model, name, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(name, key, value) for key, value in tags.items()],
    )
