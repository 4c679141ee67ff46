"""Digests of files, computed once for each of their states.

A file's state is told by its size, times and number. A write within the clock tick in which the file was digested could
leave all of them as they were, so a digest is only remembered for a file that was old enough by then: the rule by which
git trusts its index ("racy git", Documentation/technical/racy-git.txt).
"""

from collections.abc import Sequence
from pathlib import Path

from flyball.core.hashing import digest_file
from flyball.domain.data import store
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database
from flyball.storage.tables.sources import stat_token

_COARSEST_TICK_NS = 2_000_000_000  # of the file systems in use, FAT has the coarsest times: 2 seconds


class FileDigests:
    """Remembers the digests of files in the database.

    Args:
        db: Where they are remembered.
        blobs: On whose file system the present is told, since the clock may be a simulated one.
    """

    def __init__(self, db: Database, blobs: LocalBlobStore) -> None:
        self._db = db
        self._blobs = blobs

    def digest(self, path: Path) -> str:
        """Return the digest of one file."""
        return self.digest_all([path])[0]

    def digest_all(self, paths: Sequence[Path]) -> list[str]:
        """Return the digests of files, in their order.

        Raises:
            FileNotFoundError: One is gone.
        """
        tokens = {str(path.absolute()): stat_token(path) for path in paths}
        with self._db.read() as tx:
            known = store.find_digests(tx, tokens)
        unknown = [path for path in tokens if path not in known]
        if unknown:
            now_ns = self._now_ns()
            fresh = {path: digest_file(Path(path)) for path in unknown}
            lasting = [
                (path, tokens[path], digest)
                for path, digest in fresh.items()
                if _is_settled(Path(path), now_ns) and stat_token(Path(path)) == tokens[path]
            ]
            if lasting:
                with self._db.begin() as tx:
                    store.put_digests(tx, lasting)
            known.update(fresh)
        return [known[str(path.absolute())] for path in paths]

    def _now_ns(self) -> int:
        mark = self._blobs.unfinished()
        mark.touch()
        try:
            return mark.stat().st_mtime_ns
        finally:
            mark.unlink()


def _is_settled(path: Path, now_ns: int) -> bool:
    stat = path.stat()
    return max(stat.st_mtime_ns, stat.st_ctime_ns) + _COARSEST_TICK_NS < now_ns
