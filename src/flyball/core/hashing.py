"""Content digests: SHA-256 in hexadecimal, so that ``sha256sum`` can check any stored file."""

import hashlib
from pathlib import Path
from typing import Any

from flyball.core.encoding import to_canonical_json


def digest_bytes(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes, 64 hexadecimal signs."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_value(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return digest_bytes(to_canonical_json(value))


def shorten(digest: str) -> str:
    """Return the first 12 signs of a digest, for people."""
    return digest[:12]
