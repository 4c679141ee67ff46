"""An online store in one memory-mapped file that all processes of a machine share."""

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote
from weakref import WeakValueDictionary

import lmdb

from flyball.core.errors import BackendError, BackendUnavailableError
from flyball.core.files import DiskFullError
from flyball.storage.online.port import OnlineRow, newest_rows

T = TypeVar("T")
_FIRST_MAP_BYTES = 256 << 20  # address space, not disk: the file grows with what is written
_LARGEST_PLAIN_KEY = 400  # LMDB takes 511 bytes; longer keys are stored by their digest
_TIMES = struct.Struct(">qq")
_row = tuple.__new__
_value_of = itemgetter(1)
_LENGTH = struct.Struct(">I")
_PREFIX_BYTES = 12
_PART = 10_000  # rows of one read of a scan
_pack_times, _unpack_times, _TIMES_BYTES = _TIMES.pack, _TIMES.unpack_from, _TIMES.size


class LmdbOnlineStore:
    """Implements `OnlineStore` on LMDB: reads take microseconds and never wait for writers.

    Args:
        path: A folder; it is made on first use. Several stores, threads and processes may share it.
        map_bytes: How much address space to begin with; it doubles when it is full.
    """

    def __init__(self, path: Path, *, map_bytes: int = _FIRST_MAP_BYTES) -> None:
        self._environment = _environment(path, map_bytes)

    @classmethod
    def open(cls, url: str, home: Path, _timeout_s: float) -> "LmdbOnlineStore":
        """Return the store of ``lmdb`` in the home, or of ``lmdb:///folder``; nothing is waited for."""
        folder = url.partition("://")[2]
        return cls(Path(unquote(folder)) if folder else home / "online")

    def write(self, view: str, rows: Sequence[OnlineRow], *, copy: str | None = None) -> int:
        """See `OnlineStore.write`."""
        newest = newest_rows(rows)
        if not newest:
            return 0
        values = _encode_all(newest.values())
        times = [(event_time_us, known_us) for _, event_time_us, known_us, _ in newest.values()]
        places = _places(view, newest)
        copied = None if copy is None else _places(copy, newest)

        def write(transaction: Any) -> int:
            if copied is not None:
                _put_newer(transaction, copied, values, times)
            return _put_newer(transaction, places, values, times)

        return self._environment.write(write)

    def replace(self, view: str, rows: Sequence[OnlineRow]) -> int:
        """See `OnlineStore.replace`."""
        # In the order of the tree, where neighbours share pages.
        newest = newest_rows(rows)
        wanted = dict(sorted(zip(_places(view, newest), _encode_all(newest.values()), strict=True)))
        prefix = _prefix(view)

        def replace(transaction: Any) -> int:
            stored = dict(_scan(transaction, prefix))
            changed = [(place, value) for place, value in wanted.items() if stored.get(place) != value]
            gone = stored.keys() - wanted.keys()
            _put(transaction, changed)
            for place in gone:
                transaction.delete(place)
            return len(changed) + len(gone)

        return self._environment.write(replace)

    def read(self, view: str, keys: Sequence[bytes]) -> list[OnlineRow | None]:
        """See `OnlineStore.read`."""
        places = _places(view, keys)

        def read(transaction: Any) -> list[bytes | None]:
            return list(map(transaction.get, places))

        found = self._environment.read(read)
        # Without a call for each of them: a request for a hundred entities spends half its time here.
        return [
            None
            if value is None
            else _row(OnlineRow, (key, *_unpack_times(value), value[_TIMES_BYTES:]))
            if len(key) <= _LARGEST_PLAIN_KEY
            else _decode(key, value)
            for key, value in zip(keys, found, strict=True)
        ]

    def delete(self, view: str, keys: Sequence[bytes]) -> int:
        """See `OnlineStore.delete`."""
        places = _places(view, keys)
        return self._environment.write(lambda transaction: sum(bool(transaction.delete(place)) for place in places))

    def scan(self, view: str) -> Iterator[OnlineRow]:
        """See `OnlineStore.scan`."""
        prefix = _prefix(view)
        after: bytes | None = None
        while True:
            found: list[tuple[bytes, bytes]] = self._environment.read(partial(_scan_part, prefix=prefix, after=after))
            for place, value in found:
                yield _decode_stored(place, value)
            if len(found) < _PART:
                return
            after = found[-1][0]


class _Environment:
    """One open LMDB file of this process, with a map that grows.

    LMDB forbids changing the map's size while any transaction of the process is open, so transactions enter
    through a gate that a resize closes.
    """

    def __init__(self, path: Path, map_bytes: int) -> None:
        self._path = path
        self._map_bytes = map_bytes
        self._gate = threading.Condition()
        self._inside = 0
        self._resizing = False
        path.mkdir(parents=True, exist_ok=True)
        self._open()

    def read(self, work: Callable[[Any], T]) -> T:
        """Run ``work`` in a read transaction."""
        return self._run(work, is_write=False)

    def write(self, work: Callable[[Any], T]) -> T:
        """Run ``work`` in a write transaction; again from its start when the map was too small for it."""
        return self._run(work, is_write=True)

    def _run(self, work: Callable[[Any], T], *, is_write: bool) -> T:
        self._ensure_own_process()
        while True:
            try:
                with self._gate:
                    while self._resizing:
                        self._gate.wait()
                    self._inside += 1
                try:
                    size = self._lmdb.info()["map_size"] if is_write else 0
                    with self._lmdb.begin(write=is_write) as transaction:
                        return work(transaction)
                finally:
                    with self._gate:
                        self._inside -= 1
                        if self._resizing:
                            self._gate.notify_all()
            except lmdb.MapFullError:
                self._grow(size)
            except lmdb.MapResizedError:
                with self._alone():
                    self._lmdb.set_mapsize(0)
            except lmdb.DiskError as error:
                raise DiskFullError(self._path) from error
            except lmdb.Error as error:
                raise BackendUnavailableError(
                    f"the online store in {str(self._path)!r} could not be used: {error}"
                ) from error

    def _grow(self, too_small: int) -> None:
        with self._alone():
            self._lmdb.set_mapsize(0)  # another process may have grown it
            if self._lmdb.info()["map_size"] <= too_small:
                self._lmdb.set_mapsize(2 * too_small)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._gate:
            while self._resizing:
                self._gate.wait()
            self._resizing = True
            while self._inside:
                self._gate.wait()
            try:
                yield
            finally:
                self._resizing = False
                self._gate.notify_all()

    def _open(self) -> None:
        try:
            # Without a second wait for the disk a power cut may take the last write back, never half of it: the
            # mark beside a view's rows then says so, and the next materialisation does it again.
            self._lmdb = lmdb.open(str(self._path), map_size=self._map_bytes, max_readers=512, metasync=False)
        except lmdb.DiskError as error:
            raise DiskFullError(self._path) from error
        except lmdb.Error as error:
            raise BackendError(
                f"{str(self._path)!r} cannot be opened as an online store: {error}",
                hint="Remove that folder; the next materialisation fills it again.",
            ) from error
        self._pid = os.getpid()

    def _ensure_own_process(self) -> None:
        # An LMDB environment must not be used across a fork; closing it in the child leaves the parent's alone.
        if self._pid != os.getpid():
            self._lmdb.close()
            self._gate, self._inside, self._resizing = threading.Condition(), 0, False
            self._open()


# LMDB forbids opening one file twice in a process, so the stores of a process on one path share its environment.
_environments: WeakValueDictionary[Path, _Environment] = WeakValueDictionary()
_opening = threading.Lock()


def _environment(path: Path, map_bytes: int) -> _Environment:
    with _opening:
        shared = _environments.get(path.resolve())
        if shared is None:
            shared = _environments[path.resolve()] = _Environment(path.resolve(), map_bytes)
        return shared


@lru_cache(maxsize=1_000)
def _prefix(view: str) -> bytes:
    return hashlib.blake2b(view.encode(), digest_size=_PREFIX_BYTES).digest()


def _places(view: str, keys: Iterable[bytes]) -> list[bytes]:
    prefix = _prefix(view)
    plain, digested = prefix + b"k", prefix + b"d"
    return [plain + key if len(key) <= _LARGEST_PLAIN_KEY else digested + hashlib.sha256(key).digest() for key in keys]


def _encode_all(rows: Iterable[OnlineRow]) -> list[bytes]:
    # A long key's place does not tell the key, so the value does.
    return [
        _pack_times(time_us, known_us) + payload
        if len(key) <= _LARGEST_PLAIN_KEY
        else _pack_times(time_us, known_us) + payload + key + _LENGTH.pack(len(key))
        for key, time_us, known_us, payload in rows
    ]


def _decode(key: bytes, value: bytes) -> OnlineRow:
    event_time_us, known_us = _unpack_times(value)
    if len(key) <= _LARGEST_PLAIN_KEY:
        return OnlineRow(key, event_time_us, known_us, value[_TIMES_BYTES:])
    return OnlineRow(key, event_time_us, known_us, value[_TIMES_BYTES : -len(key) - _LENGTH.size])


def _decode_stored(place: bytes, value: bytes) -> OnlineRow:
    """Return a row that was found by its place."""
    kind, key = place[_PREFIX_BYTES : _PREFIX_BYTES + 1], place[_PREFIX_BYTES + 1 :]
    if kind == b"d":
        length = _LENGTH.unpack(value[-_LENGTH.size :])[0]
        key = value[-_LENGTH.size - length : -_LENGTH.size]
    return _decode(key, value)


def _put_newer(
    transaction: Any, places: Sequence[bytes], values: Sequence[bytes], times: Sequence[tuple[int, int]]
) -> int:
    """Put the values that are newer than what their places hold, and return how many they are."""
    with transaction.cursor() as cursor:
        found = cursor.getmulti(places)
    rows = zip(places, values, strict=True)
    if not found or max(map(_unpack_times, map(_value_of, found))) < min(times):  # as nearly always
        newer = list(rows)
    else:
        find = dict(found).get
        newer = [
            (place, value)
            for (place, value), known in zip(rows, times, strict=True)
            if (old := find(place)) is None or known > _unpack_times(old)
        ]
    _put(transaction, newer)
    return len(newer)


def _put(transaction: Any, values: Sequence[tuple[bytes, bytes]]) -> None:
    if values:
        with transaction.cursor() as cursor:  # many at once take half the time
            cursor.putmulti(values)


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
