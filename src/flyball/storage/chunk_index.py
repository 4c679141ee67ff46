"""Which blob has a chunk: a cache beside the blobs, which may be lost without losing anything else."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

KEY_BYTES = 20
"""Of a chunk's SHA-256: two different chunks with the same 160 bits are not going to be found."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS blob (number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS chunk (
    key BLOB PRIMARY KEY, blob INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS chunk_blob ON chunk (blob);
"""
_BATCH = 500
_TIMEOUT_S = 30


class ChunkPlace(NamedTuple):
    """Where a chunk's bytes are: in which blob, from which byte on."""

    blob: str
    start: int
    length: int


class ChunkIndex:
    """Finds chunks by their digests. One thread at a time may use it, whichever; several processes have their own.

    Whatever is wrong with its file, nothing is found in it or kept in it then, and no error is raised: a blob is only
    stored without what it might have shared.

    Args:
        path: A SQLite file; made on first use, and again when it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def find(self, keys: Sequence[bytes]) -> dict[bytes, ChunkPlace]:
        """Return where the chunks are that some blob has."""
        found: dict[bytes, ChunkPlace] = {}
        with self._forgiving(), self._open() as connection:
            for start in range(0, len(keys), _BATCH):
                part = keys[start : start + _BATCH]
                rows = connection.execute(
                    "SELECT c.key, b.digest, c.start, c.length FROM chunk AS c JOIN blob AS b ON b.number = c.blob"
                    f" WHERE c.key IN ({', '.join('?' * len(part))})",
                    part,
                )
                found.update((key, ChunkPlace(*place)) for key, *place in rows)
        return found

    def put(self, blob: str, chunks: Iterable[tuple[bytes, int, int]]) -> None:
        """Keep that a blob has chunks (key, start, length); the newest blob that has a chunk is the one found.

        What is alike is most likely to lie together there, and to stay.
        """
        with self._forgiving(), self._open() as connection:
            connection.execute("INSERT INTO blob (digest) VALUES (?) ON CONFLICT DO NOTHING", (blob,))
            number = connection.execute("SELECT number FROM blob WHERE digest = ?", (blob,)).fetchone()[0]
            connection.executemany(
                "INSERT INTO chunk (key, blob, start, length) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
                " SET blob = excluded.blob, start = excluded.start, length = excluded.length",
                ((key, number, start, length) for key, start, length in chunks),
            )

    def forget(self, blobs: Iterable[str]) -> None:
        """Find nothing in some blobs any more, since they go."""
        with self._forgiving(), self._open() as connection:
            for blob in blobs:
                connection.execute("DELETE FROM chunk WHERE blob = (SELECT number FROM blob WHERE digest = ?)", (blob,))
                connection.execute("DELETE FROM blob WHERE digest = ?", (blob,))

    def blobs(self) -> list[str]:
        """Return the digests of the blobs whose chunks are known."""
        found: list[str] = []
        with self._forgiving(), self._open() as connection:
            found += [digest for (digest,) in connection.execute("SELECT digest FROM blob")]
        return found

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            self.close()
            if _is_damaged(error):
                self._remove()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open_file()
        return self._connection

    def _open_file(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_damaged(error):
                raise
            self._remove()
            return self._connect()

    def _remove(self) -> None:
        # The log of changes of a file that is gone must not be taken for that of the next one.
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_TIMEOUT_S, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # A cache: what a power cut takes is only not found.
            connection.execute("PRAGMA synchronous = OFF")
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'chunk_blob'").fetchone():
                connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection


def _is_damaged(error: Exception) -> bool:
    # The upper bits of the code tell finer kinds; SQLITE_ERROR: its tables are not there, or others.
    damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    return getattr(error, "sqlite_errorcode", -1) & 0xFF in damage
