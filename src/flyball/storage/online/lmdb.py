"""An online store in one memory-mapped file that all processes of a machine share."""

import hashlib
import struct
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from weakref import WeakValueDictionary

from flyball.core.boots import boot_id
from flyball.storage.online.batches import Batch, put, put_newer
from flyball.storage.online.environments import Environment
from flyball.storage.online.port import OnlineRow, newest_rows
from flyball.storage.online.recent import RecentRows
from flyball.storage.online.values import TIMES_BYTES, decode_rows, pack_times, unpack_times

_FIRST_MAP_BYTES = 256 << 20  # address space, not disk: the file grows with what is written
_LARGEST_PLAIN_KEY = 400  # LMDB takes 511 bytes; longer keys are stored by their digest
_FEW, _SMALL_BYTES = 100, 128 << 10  # to write more than that twice takes longer than to wait for the disk
_LENGTH = struct.Struct(">I")
_PREFIX_BYTES = 12
_PART = 10_000  # rows of one read of a scan


class LmdbOnlineStore:
    """Implements `OnlineStore` on LMDB: reads take microseconds and never wait for writers.

    Args:
        path: A folder; it is made on first use. Several stores, threads and processes may share it.
        map_bytes: How much address space to begin with; it doubles when it is full.
        is_synced: Whether each write waits for the disk. Otherwise it is on the disk within a second; until then it
            outlives any process, but not a power cut.
    """

    def __init__(self, path: Path, *, map_bytes: int = _FIRST_MAP_BYTES, is_synced: bool = False) -> None:
        self._files = _open_files(path.resolve(), map_bytes)
        self._main, self._recent = self._files.main, self._files.recent
        self._is_synced = is_synced

    @classmethod
    def open(cls, url: str, home: Path, timeout_s: float, *, is_synced: bool) -> "LmdbOnlineStore":
        """Return the store of ``lmdb`` in the home, or of ``lmdb:///folder``; its reads wait for nothing."""
        del timeout_s
        folder = url.partition("://")[2]
        return cls(Path(unquote(folder)) if folder else home / "online", is_synced=is_synced)

    def write(self, view: str, rows: Sequence[OnlineRow], *, copy: str | None = None) -> int:
        """See `OnlineStore.write`."""
        newest = newest_rows(rows)
        if not newest:
            return 0
        values = _encode_all(newest)
        views = [view] if copy is None else [copy, view]
        batches = [Batch(_places(name, newest.keys()), values) for name in views]
        is_small = len(values) <= _FEW and sum(map(len, values)) <= _SMALL_BYTES
        if self._recent is not None and is_small and not self._is_synced:
            return self._recent.put(batches)
        return self._write(lambda transaction: put_newer(transaction, batches))

    def replace(self, view: str, rows: Sequence[OnlineRow]) -> int:
        """See `OnlineStore.replace`."""
        # In the order of the tree, where neighbours share pages.
        newest = newest_rows(rows)
        wanted = dict(sorted(zip(_places(view, newest.keys()), _encode_all(newest), strict=True)))
        prefix = _prefix(view)

        def replace(transaction: Any) -> int:
            stored = dict(_scan(transaction, prefix))
            changed = [(place, value) for place, value in wanted.items() if stored.get(place) != value]
            gone = stored.keys() - wanted.keys()
            put(transaction, changed)
            for place in gone:
                transaction.delete(place)
            return len(changed) + len(gone)

        return self._write(replace)

    def read(self, view: str, keys: Sequence[bytes]) -> list[OnlineRow | None]:
        """See `OnlineStore.read`."""
        places = _places(view, keys)
        recent = None if self._recent is None else self._recent.find(places)
        found: list[bytes | None] = self._main.read(lambda transaction: list(map(transaction.get, places)))
        if recent is not None and any(recent):
            found = list(map(_newer, found, recent))
        if _have_long(keys):
            return [None if value is None else _decode(key, value) for key, value in zip(keys, found, strict=True)]
        return decode_rows(keys, found)

    def delete(self, view: str, keys: Sequence[bytes]) -> int:
        """See `OnlineStore.delete`."""
        places = _places(view, keys)
        return self._write(lambda transaction: sum(bool(transaction.delete(place)) for place in places))

    def scan(self, view: str) -> Iterator[OnlineRow]:
        """See `OnlineStore.scan`."""
        if self._recent is not None:
            self._recent.move()
        prefix = _prefix(view)
        after: bytes | None = None
        while True:
            found: list[tuple[bytes, bytes]] = self._main.read(partial(_scan_part, prefix=prefix, after=after))
            for place, value in found:
                yield _decode_stored(place, value)
            if len(found) < _PART:
                return
            after = found[-1][0]

    def _write(self, work: Callable[[Any], int]) -> int:
        """Work on the store's own file alone, which holds all that was written before this call."""
        if self._recent is not None:
            self._recent.move()
        changed = self._main.write(work)
        if self._recent is None or self._is_synced:
            self._main.sync()
        else:
            self._recent.wake()
        return changed


class _Files:
    """The two files of a folder: the store's own, and that of the rows which are not on the disk yet."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.main = Environment(path, map_bytes)
        # Where the system does not tell its boots apart, every write waits for the disk.
        self.recent = RecentRows(self.main, path, boot_id()) if boot_id() else None


# LMDB forbids opening one file twice in a process, so the stores of a process on one path share its files.
_files: WeakValueDictionary[Path, _Files] = WeakValueDictionary()
_opening = threading.Lock()


def _open_files(path: Path, map_bytes: int) -> _Files:
    with _opening:
        shared = _files.get(path)
        if shared is None:
            shared = _files[path] = _Files(path, map_bytes)
        return shared


@lru_cache(maxsize=1_000)
def _prefix(view: str) -> bytes:
    return hashlib.blake2b(view.encode(), digest_size=_PREFIX_BYTES).digest()


def _places(view: str, keys: Collection[bytes]) -> list[bytes]:
    prefix = _prefix(view)
    plain, digested = prefix + b"k", prefix + b"d"
    if not _have_long(keys):
        return [plain + key for key in keys]
    return [plain + key if len(key) <= _LARGEST_PLAIN_KEY else digested + hashlib.sha256(key).digest() for key in keys]


def _have_long(keys: Collection[bytes]) -> bool:
    """Tell whether one of the keys is stored by its digest: rarely, and what is asked of each takes time."""
    return bool(keys) and max(map(len, keys)) > _LARGEST_PLAIN_KEY


def _encode_all(rows: Mapping[bytes, OnlineRow]) -> list[bytes]:
    if not _have_long(rows.keys()):
        return [pack_times(time_us, known_us) + payload for _, time_us, known_us, payload in rows.values()]
    # A long key's place does not tell the key, so the value does.
    return [
        pack_times(time_us, known_us) + payload
        if len(key) <= _LARGEST_PLAIN_KEY
        else pack_times(time_us, known_us) + payload + key + _LENGTH.pack(len(key))
        for key, time_us, known_us, payload in rows.values()
    ]


def _decode(key: bytes, value: bytes) -> OnlineRow:
    event_time_us, known_us = unpack_times(value)
    if len(key) <= _LARGEST_PLAIN_KEY:
        return OnlineRow(key, event_time_us, known_us, value[TIMES_BYTES:])
    return OnlineRow(key, event_time_us, known_us, value[TIMES_BYTES : -len(key) - _LENGTH.size])


def _decode_stored(place: bytes, value: bytes) -> OnlineRow:
    """Return a row that was found by its place."""
    kind, key = place[_PREFIX_BYTES : _PREFIX_BYTES + 1], place[_PREFIX_BYTES + 1 :]
    if kind == b"d":
        length = _LENGTH.unpack(value[-_LENGTH.size :])[0]
        key = value[-_LENGTH.size - length : -_LENGTH.size]
    return _decode(key, value)


def _newer(one: bytes | None, other: bytes | None) -> bytes | None:
    """Return the value of the newer row; of ties the first."""
    if one is None or other is None:
        return other if one is None else one
    return other if unpack_times(other) > unpack_times(one) else one


def _scan_part(transaction: Any, prefix: bytes, after: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the next rows of a view: a long read would keep what is replaced meanwhile in the file."""
    return list(islice(_scan(transaction, prefix, after), _PART))


def _scan(transaction: Any, prefix: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    with transaction.cursor() as cursor:
        if cursor.set_range(prefix if after is None else after + b"\0"):
            for place, value in cursor:
                if not place.startswith(prefix):
                    return
                yield place, value
