"""Opening a table's source: files as they lie, or rows fetched from a database or listed from a folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flyball.core.durations import parse_instant
from flyball.core.errors import InvalidInputError
from flyball.core.hashing import digest_file, digest_value
from flyball.domain.data.contents import Source
from flyball.domain.data.tables import Table
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.tables.delta import open_delta
from flyball.storage.tables.folders import MODIFIED, describe_members, list_members
from flyball.storage.tables.parquet import with_partitions
from flyball.storage.tables.sources import (
    DataFile,
    SourceMissingError,
    find_kind,
    fingerprint_source,
    list_files,
    stat_token,
)
from flyball.storage.tables.sql import count_rows, fetch_one, fetch_rows, select_rows
from flyball.storage.tables.urls import is_database, sqlite_path

DigestFiles = Callable[[list[Path]], list[str]]


@contextmanager
def opened_source(table: Table, root: Path, digest_files: DigestFiles, blobs: LocalBlobStore) -> Iterator[Source]:
    """Resolve a table's source; what was fetched for it is gone at the end of the block.

    Args:
        table: The declaration.
        root: The project's folder.
        digest_files: Returns the digests of files.
        blobs: Where the files of a folder are kept.

    Raises:
        SourceMissingError: There is nothing.
        SourceUnreadableError: A Delta log is damaged.
        DatabaseUnreachableError: A database does not answer.
        InvalidInputError: The source has no known format, or a query is refused.
    """
    if not table.files and not is_database(table.source):
        yield _open_files(table, root, digest_files)
        return
    fetched = blobs.unfinished()
    try:
        if table.files:
            folder = root / Path(table.source).expanduser()
            members = list_members(folder, table.files, table.label)
            frame = describe_members(folder, members, digest_files, with_times=MODIFIED in (table.time, table.known))
            for member, digest in zip(members, frame["digest"], strict=True):
                if not blobs.has_file(digest):  # its rows name it by its path
                    blobs.put_file(member)
            frame.write_parquet(fetched)
        else:
            statement = select_rows(table.sql, _order(table))
            fetch_rows(table.source, statement, fetched, root=root, what=table.label)
        yield Source(table, fetched, "parquet", [DataFile(fetched, {})], [digest_file(fetched)], [stat_token(fetched)])
    finally:
        fetched.unlink(missing_ok=True)


def _order(table: Table) -> list[str]:
    keys = table.key or (table.entity.keys if table.entity else ())
    return list(dict.fromkeys([*([table.time] if table.time else []), *keys]))


def _open_files(table: Table, root: Path, digest_files: DigestFiles) -> Source:
    path = root / Path(table.source).expanduser()
    kind, schema, version = find_kind(path, table.label), None, None
    if table.version is not None and kind != "delta":
        raise InvalidInputError(
            f"the {table.label} has version={table.version!r}, but only Delta tables have versions",
            hint="Leave it out; a snapshot keeps what the table held.",
        )
    if kind == "delta":
        asked = table.version if not isinstance(table.version, str) else parse_instant(table.version, what="version")
        found = open_delta(path, what=table.label, version=asked)
        schema, version = found.schema, None if found.is_plain else found.version
        files = found.files
        if not found.is_plain:
            files = [DataFile(file, {}) for file in list_files(path, "parquet", table.label)]
    else:
        paths = list_files(path, kind, table.label)
        base = path if path.is_dir() else path.parent
        files = with_partitions(paths, base) if kind == "parquet" else [DataFile(file, {}) for file in paths]
    try:
        tokens = [stat_token(file.path) for file in files]
        digests = digest_files([file.path for file in files])
    except FileNotFoundError as error:
        raise SourceMissingError(table.label, path, "a file was removed while it was read") from error
    return Source(table, path, kind, files, digests, tokens, schema, version)


def fingerprint(table: Table, root: Path) -> str:
    """Return a token that changes when a table's source does; reads folder entries, or one row of a database.

    Raises:
        SourceMissingError: There is no source.
        DatabaseUnreachableError: A database does not answer.
    """
    path = root / Path(table.source).expanduser()
    if table.files:
        members = list_members(path, table.files, table.label)
        return digest_value([[str(member), stat_token(member)] for member in members])
    if not is_database(table.source):
        return fingerprint_source(path, table.label)
    local = sqlite_path(table.source, root)
    if local is not None and local.exists():
        logs = [local, local.with_name(local.name + "-wal")]
        return digest_value([stat_token(file) for file in logs if file.exists()])
    newest = table.known or table.time
    return digest_value(fetch_one(table.source, count_rows(table.sql, newest), root=root, what=table.label))
