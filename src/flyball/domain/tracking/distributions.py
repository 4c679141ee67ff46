"""Which distributions are installed; light enough for the start-up path."""

import os
import re
import sys
from contextlib import suppress

from flyball.core.hashing import digest_value
from flyball.version import __version__

_DIST_INFO = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)\.dist-info$")


def installed_distributions() -> dict[str, str]:
    """Return every importable distribution and its version, the first on the path winning.

    Names and versions are read off the ``NAME-VERSION.dist-info`` folders, which the packaging standard (PEP 376,
    PEP 427) fixes: importlib.metadata parses every METADATA file for the same two words and takes 50 times as long.
    """
    found: dict[str, str] = {}
    for entry in dict.fromkeys(sys.path):
        with suppress(OSError):
            for name in os.listdir(entry or "."):  # noqa: PTH208  names are all that is needed
                match = _DIST_INFO.match(name) if name.endswith(".dist-info") else None
                if match:
                    found.setdefault(match["name"].replace("_", "-").lower(), match["version"])
    return found


def environment_digest() -> str:
    """Return a digest of the interpreter, Flyball's release and all distributions: when it differs, anything may."""
    return digest_value([sys.version, __version__, sorted(installed_distributions().items())])
