"""Opening a table's source: files as they lie, or rows fetched from a database, a stream or a list of files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flyball.core.durations import parse_instant
from flyball.core.hashing import digest_file
from flyball.domain.data.describing import Source
from flyball.domain.data.tables import Table
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.tables.choosing import choose_source
from flyball.storage.tables.folders import MODIFIED
from flyball.storage.tables.port import Asked, DigestFiles
from flyball.storage.tables.sources import SourceMissingError, stat_token


@contextmanager
def opened_source(
    table: Table, root: Path, keep: Path, digest_files: DigestFiles, blobs: LocalBlobStore
) -> Iterator[Source]:
    """Resolve a table's source; what was fetched for it is gone at the end of the block.

    Args:
        table: The declaration.
        root: The project's folder.
        keep: Where sources keep what they took, in a folder for each table.
        digest_files: Returns the digests of files.
        blobs: Where files that rows are about are kept.

    Raises:
        SourceMissingError: There is nothing.
        SourceUnreadableError: A Delta log is damaged.
        BackendUnavailableError: A database or a stream does not answer.
        InvalidInputError: The source has no known format, or a query is refused.
    """
    fetched = blobs.unfinished()
    try:
        found = choose_source(_asked(table, root, keep)).open(fetched, digest_files)
        for digest, member in found.members.items():
            if not blobs.has_file(digest):  # its rows name it by its path
                blobs.put_file(member)
        paths = [file.path for file in found.files]
        try:
            tokens = [stat_token(path) for path in paths]
            digests = [digest_file(fetched)] if paths == [fetched] else digest_files(paths)
        except FileNotFoundError as error:
            raise SourceMissingError(table.label, found.path, "a file was removed while it was read") from error
        yield Source(table, found.path, found.kind, found.files, digests, tokens, found.schema, found.version)
    finally:
        fetched.unlink(missing_ok=True)


def fingerprint(table: Table, root: Path, keep: Path) -> str:
    """Return a token that changes when a table's source does; reads folder entries, or asks a server for its state.

    Raises:
        SourceMissingError: There is no source.
        BackendUnavailableError: A database or a stream does not answer.
    """
    return choose_source(_asked(table, root, keep)).fingerprint()


def _asked(table: Table, root: Path, keep: Path) -> Asked:
    keys = table.key or (table.entity.keys if table.entity else ())
    times = (table.time, table.known)
    version = table.version
    return Asked(
        source=table.source,
        root=root,
        what=table.label,
        keep=keep / (table.name or "unnamed"),
        files=table.files,
        sql=table.sql,
        order=tuple(dict.fromkeys([*([table.time] if table.time else []), *keys])),
        newest=table.known or table.time,
        types=table.types,
        time_zone=table.time_zone,
        version=parse_instant(version, what="version") if isinstance(version, str) else version,
        has_times=MODIFIED in times,
    )
