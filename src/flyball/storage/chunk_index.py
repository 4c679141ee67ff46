"""Which blob has a chunk: a cache beside the blobs, which may be lost without losing anything else."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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
        with self._open() as connection:
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
        with self._open() as connection:
            connection.execute("INSERT INTO blob (digest) VALUES (?) ON CONFLICT DO NOTHING", (blob,))
            number = connection.execute("SELECT number FROM blob WHERE digest = ?", (blob,)).fetchone()[0]
            connection.executemany(
                "INSERT INTO chunk (key, blob, start, length) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
                " SET blob = excluded.blob, start = excluded.start, length = excluded.length",
                ((key, number, start, length) for key, start, length in chunks),
            )

    def forget(self, blobs: Iterable[str]) -> None:
        """Find nothing in some blobs any more, since they go."""
        with self._open() as connection:
            for blob in blobs:
                connection.execute("DELETE FROM chunk WHERE blob = (SELECT number FROM blob WHERE digest = ?)", (blob,))
                connection.execute("DELETE FROM blob WHERE digest = ?", (blob,))

    def blobs(self) -> list[str]:
        """Return the digests of the blobs whose chunks are known."""
        with self._open() as connection:
            return [digest for (digest,) in connection.execute("SELECT digest FROM blob")]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = self._connect()
            except sqlite3.DatabaseError:
                self._path.unlink(missing_ok=True)
                self._connection = self._connect()
        with self._connection:
            yield self._connection

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
