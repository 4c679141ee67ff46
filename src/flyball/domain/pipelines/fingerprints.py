"""Whether files still hold what they held, told from their state where that is safe and by content otherwise.

Light enough for the start-up path: a run of an unchanged project imports this and little else.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from glob import glob, has_magic
from pathlib import Path

import msgspec

from flyball.core.clock import SystemClock
from flyball.core.durations import to_us
from flyball.core.hashing import digest_file, digest_value

_RACY_NS = 2_000_000_000
"""A file changed this shortly before it was read may have changed again within one tick of its file system's clock
(FAT ticks every 2 s), so that its state proves nothing: git's racy-timestamp rule."""
_NAMES_SOMETHING = re.compile(r"\w")
_PATH_LIMIT = 1_024


def clock_ns() -> int:
    """Return the machine's time as file systems stamp it; a simulated clock says nothing about files."""
    return to_us(SystemClock().now()) * 1_000


LOADED_NS = clock_ns()
"""When this process began: source files changed later may not be what was imported."""


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """A file's state and content when it was read."""

    path: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    checked_ns: int
    digest: str

    @property
    def is_racy(self) -> bool:
        """Tell whether the file changed so shortly before it was read that its state proves nothing."""
        return max(self.mtime_ns, self.ctime_ns) > self.checked_ns - _RACY_NS

    def is_like(self, state: os.stat_result) -> bool:
        """Tell whether a file's state is the one it had."""
        return (self.size_bytes, self.mtime_ns, self.ctime_ns, self.inode) == (
            state.st_size,
            state.st_mtime_ns,
            state.st_ctime_ns,
            state.st_ino,
        )


class Watched(msgspec.Struct, frozen=True):
    """A file, folder or glob, and the files that it named."""

    source: str
    files: list[Stamp]


def take_stamp(path: str) -> Stamp:
    """Read a file's state and content.

    Raises:
        OSError: It cannot be read.
    """
    while True:
        now, before = clock_ns(), Path(path).stat()
        digest = digest_file(Path(path))
        after = Path(path).stat()
        if (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino):
            return Stamp(
                path, after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino, checked_ns=now, digest=digest
            )


def refresh_stamp(stamp: Stamp) -> Stamp:
    """Return the stamp of the file as it is now; its content is read only where its state proves nothing.

    Raises:
        OSError: It cannot be read.
    """
    if stamp.is_like(Path(stamp.path).stat()) and not stamp.is_racy:
        return stamp
    return take_stamp(stamp.path)


def list_files(source: str) -> list[str]:
    """Return the files that a path, folder or glob names, sorted; a missing one names none."""
    if os.path.isdir(source):  # noqa: PTH112  plain text in, plain text out, for thousands of files
        found = [os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names]  # noqa: PTH118
        return sorted(found)
    if has_magic(source) and not Path(source).exists():
        matches = glob(source, recursive=True)  # noqa: PTH207  patterns are absolute, which Path.glob refuses
        return sorted({file for match in matches for file in list_files(match)})
    return [source] if Path(source).is_file() else []


def check_watched(watched: Watched) -> Watched | None:
    """Return the present stamps if every file is there, none came and none changed its content; None otherwise."""
    if list_files(watched.source) != [stamp.path for stamp in watched.files]:
        return None
    try:
        present = [refresh_stamp(stamp) for stamp in watched.files]
    except OSError:
        return None
    if any(now.digest != then.digest for now, then in zip(present, watched.files, strict=True)):
        return None
    return Watched(watched.source, present)


class FileDigests:
    """Digests of files, computed once for each state of a file.

    Args:
        known: Stamps of earlier runs by path.

    Attributes:
        fresh: Stamps taken by this object, to be kept for later runs.
    """

    def __init__(self, known: Mapping[str, Stamp] | None = None) -> None:
        self._known = dict(known or {})
        self._checked: dict[str, Stamp] = {}
        self._read: dict[str, str] = {}
        self.fresh: dict[str, Stamp] = {}

    def stamp(self, path: str) -> Stamp:
        """Return a file's stamp, read at most once in this object's life.

        Raises:
            OSError: It cannot be read.
        """
        found = self._checked.get(path)
        if found is None or not found.is_like(Path(path).stat()):
            known = self._known.get(path)
            found = refresh_stamp(known) if known is not None else take_stamp(path)
            if found is not known:
                self.fresh[path] = found
            self._checked[path] = found
            self._read.setdefault(path, found.digest)
        return found

    def digest(self, path: Path, *, skip: Callable[[str], bool] = lambda file: False) -> str:
        """Return the digest of a file, or of a folder: of the names and contents of all files in it.

        Args:
            path: The file or folder.
            skip: Says which files do not count.

        Returns:
            Empty text if there are files and none counts.

        Raises:
            OSError: It cannot be read.
        """
        root = str(path)
        if not path.is_dir():
            return "" if skip(root) else self.stamp(root).digest
        present = list_files(root)
        counting = [file for file in present if not skip(file)]
        if present and not counting:
            return ""
        return digest_value([[file[len(root) :], self.stamp(file).digest] for file in counting])

    def watch(self, sources: Iterable[str], *, since_ns: int) -> list[Watched] | None:
        """Return the stamps of all files that some paths, folders or globs name.

        Args:
            sources: Absolute paths, folders or globs.
            since_ns: When reading began; what changed later may not be what was read.

        Returns:
            None if a file changed since it was read, so that nothing can be said.
        """
        watched = []
        for source in dict.fromkeys(sources):
            stamps = [self._unchanged_stamp(file, since_ns) for file in list_files(source)]
            if None in stamps:
                return None
            watched.append(Watched(source, [stamp for stamp in stamps if stamp is not None]))
        return watched

    def _unchanged_stamp(self, path: str, since_ns: int) -> Stamp | None:
        try:
            read = self._read.get(path)
            stamp = self.stamp(path)
        except OSError:
            return None
        if read is not None:
            return stamp if stamp.digest == read else None
        return stamp if max(stamp.mtime_ns, stamp.ctime_ns) < since_ns else None


def find_path(value: object, root: Path) -> Path | None:
    """Return the file or folder that a value names: a path, or text that names something that exists.

    Relative ones start at the project's folder. Text without a letter or digit, such as ``.`` or ``/``, is no path.
    """
    if isinstance(value, str):
        if not value or len(value) > _PATH_LIMIT or "\0" in value or "\n" in value:
            return None
        if not _NAMES_SOMETHING.search(value):
            return None
    elif not isinstance(value, Path):
        return None
    try:
        path = root / value
        return path if path.exists() else None
    except OSError:
        return None
