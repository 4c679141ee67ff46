"""How values that steps hand over are written and read.

====================  ==========================================================================
what                  as
====================  ==========================================================================
Polars DataFrame      ``arrow``: Arrow IPC, uncompressed
Polars LazyFrame      ``lazy``: the same, collected; read back as a lazy scan of the mapped file
NumPy array           ``npy``: read back memory-mapped, changes stay private
JSON value            ``json``: None, bool, int, float, text, and lists and dicts of them
TrainingSet           ``training-set``: the files that it writes
anything else         ``pickle``: cloudpickle, protocol 5
====================  ==========================================================================

Values of up to 16 kB lie in the database, so that a small step costs one commit and no file.
"""

import json
import math
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flyball.core.boots import boot_id
from flyball.core.errors import InvalidInputError
from flyball.core.hashing import digest_bytes, digest_value
from flyball.core.processes import is_running
from flyball.domain.features.training_sets import TrainingSet
from flyball.domain.pipelines.fingerprints import find_path
from flyball.domain.pipelines.results import StoredValue
from flyball.storage.blobs import LocalBlobStore

_INLINE_LIMIT_BYTES = 16_384
_PATHS_LIMIT = 1_000
_PICKLE_PROTOCOL = 5


class UnstorableValueError(InvalidInputError):
    """A step returned what cannot be kept for the next one."""

    code = "pipelines/unstorable"

    def __init__(self, step: str, value: Any, reason: str) -> None:
        super().__init__(
            f"step {step!r} returns a {type(value).__qualname__}, which cannot be kept: {reason}",
            hint="Return data, or an object that can be pickled; open files and connections inside of the step.",
        )


class ValueStore:
    """Writes and reads what steps return.

    Args:
        blobs: Where values above 16 kB lie.
        root: The project's folder, where relative paths start.
        digest_path: Returns the digest of a file or folder that a value names.
    """

    def __init__(self, blobs: LocalBlobStore, root: Path, digest_path: Callable[[Path], str]) -> None:
        self._blobs = blobs
        self._root = root
        self._digest_path = digest_path

    def put(self, step: str, value: Any) -> tuple[StoredValue, bytes | None]:
        """Write a value and return where it lies, with its bytes if they are to lie in the database.

        Raises:
            UnstorableValueError: It cannot be written.
        """
        kind, content = self._write(step, value)
        name = type(value).__qualname__
        files = tuple((str(path), self._digest_path(path)) for path in _paths_in(value, self._root))
        if isinstance(content, dict):
            sizes = [self._blobs.path(part).stat().st_size for part in content.values()]
            stored = StoredValue(
                digest=digest_value(content),
                format=kind,
                size_bytes=sum(sizes),
                type_name=name,
                is_inline=False,
                boot=boot_id(),
                parts=content,
            )
            return stored, None
        is_inline = isinstance(content, bytes)
        stored = StoredValue(
            digest=digest_bytes(content) if isinstance(content, bytes) else content[0],
            format=kind,
            size_bytes=len(content) if isinstance(content, bytes) else content[1],
            type_name=name,
            is_inline=is_inline,
            boot="" if is_inline else boot_id(),
            files=files,
        )
        return stored, content if isinstance(content, bytes) else None

    def get(self, stored: StoredValue, content: bytes | None = None) -> Any:
        """Read a value back.

        Args:
            stored: Where it lies.
            content: Its bytes, if they lie in the database.

        Raises:
            NotFoundError: Its blob is gone.
        """
        if content is not None:
            return json.loads(content) if stored.format == "json" else pickle.loads(content)
        if stored.format == "training-set":
            return self._read_folder(stored)
        path = self._blobs.path(stored.digest)
        if stored.format == "json":
            return json.loads(path.read_bytes())
        if stored.format == "npy":
            return _read_array(path)
        if stored.format in ("arrow", "lazy"):
            import polars as pl

            return pl.read_ipc(path) if stored.format == "arrow" else pl.scan_ipc(path)
        with path.open("rb") as file:
            return pickle.load(file)

    def _write(self, step: str, value: Any) -> tuple[str, bytes | tuple[str, int] | dict[str, str]]:
        """Return the format, and the bytes, the blob's digest and size, or the digests of a folder's blobs."""
        if isinstance(value, TrainingSet):
            return "training-set", self._write_folder(value)
        kind = _frame_kind(value)
        if kind is not None and (written := self._write_frame(value)) is not None:
            return kind, written
        if _is_plain_array(value):
            return "npy", self._adopt(lambda path: _write_array(value, path))
        text = _as_json(value)
        if text is not None:
            return "json", text if len(text) <= _INLINE_LIMIT_BYTES else self._adopt(_writer(text))
        return "pickle", self._pickle(step, value)

    def _write_frame(self, value: Any) -> tuple[str, int] | None:
        import polars as pl

        frame = value.collect() if isinstance(value, pl.LazyFrame) else value
        if any(kind == pl.Object for kind in frame.dtypes):
            return None
        # One chunk, so that equal frames have equal bytes and the next step can map them whole.
        return self._adopt(lambda path: frame.rechunk().write_ipc(path, compression="uncompressed"))

    def _pickle(self, step: str, value: Any) -> bytes | tuple[str, int]:
        import cloudpickle

        def write(path: Path) -> None:
            with path.open("wb") as file:
                cloudpickle.dump(value, file, protocol=_PICKLE_PROTOCOL)

        path = self._blobs.unfinished()
        try:
            write(path)
            size = path.stat().st_size
            if size <= _INLINE_LIMIT_BYTES:
                return path.read_bytes()
            return self._blobs.adopt(path), size
        except OSError:
            raise
        except Exception as error:
            raise UnstorableValueError(step, value, str(error)) from error
        finally:
            path.unlink(missing_ok=True)

    def _adopt(self, write: Callable[[Path], object]) -> tuple[str, int]:
        path = self._blobs.unfinished()
        try:
            write(path)
            size = path.stat().st_size
            return self._blobs.adopt(path), size
        finally:
            path.unlink(missing_ok=True)

    def _write_folder(self, value: TrainingSet) -> dict[str, str]:
        with self._folder() as name:
            folder = Path(name)
            value.save(folder)
            return {file.name: self._blobs.adopt(file) for file in sorted(folder.iterdir())}

    def _folder(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=self._blobs.unfinished().parent)

    def _read_folder(self, stored: StoredValue) -> TrainingSet:
        with self._folder() as name:
            for part, digest in stored.parts.items():
                (Path(name) / part).symlink_to(self._blobs.path(digest).resolve())
            return TrainingSet.load(Path(name))


def remove_unfinished(blobs: LocalBlobStore) -> None:
    """Remove what processes that are gone were writing; files are named after their process."""
    for path in blobs.unfinished().parent.iterdir():
        pid = path.name.partition("-")[0]
        if pid.isdecimal() and not is_running(int(pid)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _frame_kind(value: Any) -> str | None:
    if not type(value).__module__.startswith("polars."):
        return None
    return {"DataFrame": "arrow", "LazyFrame": "lazy"}.get(type(value).__name__)


def _is_plain_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject


def _write_array(value: Any, path: Path) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.save(file, value, allow_pickle=False)


def _read_array(path: Path) -> Any:
    import numpy as np

    try:
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except ValueError:  # an array without elements cannot be mapped
        return np.load(path, allow_pickle=False)


def _as_json(value: Any) -> bytes | None:
    """Return a value as JSON if that gives back exactly the same value; None otherwise."""
    try:
        return json.dumps(value, ensure_ascii=False).encode() if _is_json(value) else None
    except (RecursionError, UnicodeEncodeError):
        return None


def _is_json(value: Any) -> bool:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return True
    if kind is float:
        return math.isfinite(value)
    if kind is list:
        return all(map(_is_json, value))
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_json, value.values()))
    return False


def _writer(content: bytes) -> Callable[[Path], int]:
    return lambda path: path.write_bytes(content)


def _paths_in(value: Any, root: Path) -> Iterator[Path]:
    """Return the files and folders that a value names: itself, or members of a short list, tuple or dict."""
    members = value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else [value]
    if len(members) <= _PATHS_LIMIT:
        for member in members:
            path = find_path(member, root)
            if path is not None:
                yield path
