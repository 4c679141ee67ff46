"""The URLs of databases, told apart from paths without loading any driver."""

import re
from pathlib import Path
from urllib.parse import unquote

# Scheme → (driver's module, the extra that installs it).
DRIVERS = {
    "sqlite": ("adbc_driver_sqlite", "sql"),
    "postgresql": ("adbc_driver_postgresql", "sql"),
    "postgres": ("adbc_driver_postgresql", "sql"),
    "snowflake": ("adbc_driver_snowflake", "snowflake"),
}
ANY = "adbc+"
_PASSWORD = re.compile(r"(://[^:/@]*):[^@/]*@")


def is_database(source: str) -> bool:
    """Tell whether a source is the URL of a database."""
    scheme = source.partition("://")[0]
    return "://" in source and (scheme in DRIVERS or scheme.startswith(ANY))


def mask(url: str) -> str:
    """Return a URL without its password, for people."""
    return _PASSWORD.sub(r"\1:***@", url)


def sqlite_path(source: str, root: Path) -> Path | None:
    """Return the file of an SQLite URL; None for other databases."""
    scheme, _, rest = source.partition("://")
    return (
        root / unquote(rest.removeprefix("/") if not rest.startswith("//") else rest[1:])
        if scheme == "sqlite"
        else None
    )
