"""The URLs of databases, told apart from paths without loading any driver."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from flyball.core.errors import InvalidInputError

# Scheme → (driver's module, the extra that installs it).
DRIVERS = {
    "sqlite": ("adbc_driver_sqlite", "sql"),
    "postgresql": ("adbc_driver_postgresql", "sql"),
    "postgres": ("adbc_driver_postgresql", "sql"),
    "snowflake": ("adbc_driver_snowflake", "snowflake"),
}
ANY = "adbc+"
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PASSWORD = re.compile(r"(://[^:/@]*):[^@/]*@")
_SECRET = re.compile(r"([?&][^=&]*(?:password|secret)[^=&]*=)[^&]*", re.IGNORECASE)


def is_database(source: str) -> bool:
    """Tell whether a source is the URL of a database."""
    scheme = source.partition("://")[0]
    return "://" in source and (scheme in DRIVERS or scheme.startswith(ANY))


def is_url(source: str) -> bool:
    """Tell whether a source is a URL and no path."""
    return "://" in source


def mask(url: str) -> str:
    """Return a URL without its passwords, for people."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def sqlite_path(source: str, root: Path) -> Path | None:
    """Return the file of an SQLite URL; None for other databases."""
    scheme, _, rest = source.partition("://")
    return (
        root / unquote(rest.removeprefix("/") if not rest.startswith("//") else rest[1:])
        if scheme == "sqlite"
        else None
    )


def expand(source: str, what: str) -> str:
    """Put environment variables in place of ``${NAME}``, so that a project file need not hold a password.

    Raises:
        InvalidInputError: One is not set.
    """

    def value(found: re.Match[str]) -> str:
        text = os.environ.get(found[1])
        if text is None:
            raise InvalidInputError(
                f"the source of the {what} names ${{{found[1]}}}, which is not set in the environment",
                hint=f"Set it: export {found[1]}=...",
            )
        return text

    return _VARIABLE.sub(value, source)
