"""The numbered SQL files that make and change the schema, and which of them a database lacks."""

from collections.abc import Collection, Iterator
from importlib import resources

from flyball.core.errors import BackendError

# One row for each file that was carried out. A file may land after others with higher numbers.
BOOKKEEPING = "CREATE TABLE schema_migration (name TEXT PRIMARY KEY)"
# Before there was a table of names, a counter told how many files were carried out.
_COUNTED = 10


def migration_names() -> list[str]:
    """Return the names of all files, in the order in which they are carried out."""
    files = resources.files("flyball.storage.migrations").iterdir()
    return sorted(file.name for file in files if file.name.endswith(".sql"))


def counted_names(known: list[str], count: int) -> list[str]:
    """Return which files a database has seen that has only counted them.

    Raises:
        BackendError: It was written between releases, when files landed in no order.
    """
    if count > _COUNTED:
        raise BackendError(
            f"the database was written by an unfinished build of Flyball (schema {count})",
            hint="Begin with another folder (--home); only what releases wrote is carried over.",
        )
    return known[:count]


def missing_names(known: list[str], applied: Collection[str]) -> list[str]:
    """Return which files a database lacks.

    Raises:
        BackendError: The database has seen files that this release does not have.
    """
    if newer := sorted(set(applied).difference(known)):
        raise BackendError(
            f"the database has the schema of a newer release than this one (it knows {newer[-1]!r})",
            hint="Install the release of Flyball that wrote it, or a newer one.",
        )
    return [name for name in known if name not in applied]


def read_statements(name: str) -> Iterator[str]:
    """Yield the statements of a file."""
    text = resources.files("flyball.storage.migrations").joinpath(name).read_text(encoding="utf-8")
    yield from (statement for statement in text.split(";\n") if statement.strip())
