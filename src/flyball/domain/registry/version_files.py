"""Files of versions that clients register: named again at a place of the version's own, where nobody changes them."""

import os
from typing import Protocol

from flyball.core.hashing import digest_value
from flyball.domain.tracking import artifact_store
from flyball.domain.tracking.artifacts import SEALED, ArtifactFile, Place, parse_place
from flyball.storage.db import Transaction


class ModelFiles(Protocol):
    """The files that clients put into our store."""

    def digest(self, tx: Transaction, location: str) -> str | None:
        """Return the digest of the names and digests of all files below an address; None where there are none."""
        ...

    def seal(self, tx: Transaction, location: str) -> str:
        """Name all files below an address at a new one, where they can no more be changed, and return that."""
        ...

    def remove(self, tx: Transaction, location: str) -> None:
        """Take away what `seal` named."""
        ...


class VersionFiles:
    """Implements `ModelFiles` over the artifacts' names; no bytes are copied."""

    def digest(self, tx: Transaction, location: str) -> str | None:
        """See `ModelFiles.digest`."""
        place = parse_place(location)
        files = _files(tx, place)
        return digest_of(place, files) if files else None

    def seal(self, tx: Transaction, location: str) -> str:
        """See `ModelFiles.seal`."""
        place, owner = parse_place(location), f"{SEALED}{os.urandom(16).hex()}"
        artifact_store.copy_folder(tx, place, owner)
        return f"mlflow-artifacts:/versions/{owner}/artifacts"

    def remove(self, tx: Transaction, location: str) -> None:
        """See `ModelFiles.remove`."""
        owner = parse_place(location).owner
        if owner.startswith(SEALED):
            artifact_store.remove_owners(tx, [owner])


def digest_of(place: Place, files: list[ArtifactFile]) -> str:
    """Return the digest of files' names below a place and of what they hold."""
    return digest_value(sorted([_below(place, file), file.digest] for file in files))


def _files(tx: Transaction, place: Place) -> list[ArtifactFile]:
    return artifact_store.walk(tx, place)


def _below(place: Place, file: ArtifactFile) -> str:
    return file.place.path[len(place.path) + 1 :] if place.path else file.place.path
