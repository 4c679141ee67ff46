"""What must still hold for a whole run to be taken as it is; light enough for the start-up path."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from flyball.core.encoding import to_json
from flyball.domain.pipelines.fingerprints import Stamp, Watched
from flyball.domain.pipelines.keys import as_json
from flyball.domain.pipelines.results import Output

VERSION = 1
SETTINGS_FILE = "flyball.toml"


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A successful run, and everything it depended on.

    Attributes:
        version: Of this layout.
        run_id: The run.
        project: The project's folder.
        environment: Digest of interpreter, Flyball and all distributions.
        boot: The machine's boot, where values lie in blobs that were not forced to disk.
        sources: The project's Python files that were loaded, and its settings.
        listings: The names of the Python files in each folder of ``sources``: a new one may shadow another module.
        watched: Data: tables, and what parameters, constants and results name.
        absent: Paths that parameters and constants might name, where there was nothing.
        blobs: Digests of the values' blobs.
        seq: The journal's last event when the run ended.
        unless: Kinds of events (or beginnings of kinds, ending with a dot) that void the certificate.
        valid_until_us: When it ends by itself; None for never.
    """

    version: int
    run_id: str
    project: str
    environment: str
    boot: str
    sources: list[Stamp]
    listings: dict[str, list[str]]
    watched: list[Watched]
    absent: list[str]
    blobs: list[str]
    seq: int
    unless: list[str]
    valid_until_us: int | None
    outputs: dict[str, Output]
    notes: dict[str, list[Any]]

    def encode(self) -> bytes:
        """Return the certificate as JSON."""
        return to_json(self)


def params_text(params: Mapping[str, Any]) -> str | None:
    """Return parameters as the text under which a certificate is kept; None if they cannot be written so."""
    try:
        return as_json(dict(params))
    except TypeError:
        return None


def list_modules(folder: str) -> list[str]:
    """Return what can be imported from a folder: its Python files and subfolders, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.endswith(".py") or (entry.is_dir() and entry.name.isidentifier())
        )


def source_folders(paths: list[str]) -> list[str]:
    """Return the folders of some files, each once."""
    return sorted({str(Path(path).parent) for path in paths})
