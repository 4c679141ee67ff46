"""The prediction log's open segments: files that only grow, one writer each.

A line is the CRC-32 of a record's JSON in eight hexadecimal signs, a space and the JSON; a record is one prediction or
a batch of them (`batches.py`). A request's lines go out with one ``write`` before its answer does; what the kernel has
taken survives ``kill -9`` of the writer. A line that was cut off in the middle has the wrong checksum or no end, and is
dropped: nobody was answered from it.

A writer holds the lock (``flock``) of its segment, so a segment that can be locked has no writer any more, whether it
was closed or died: it is finished.
"""

import errno
import fcntl
import os
import re
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from flyball.core.clock import Clock, monotonic_s
from flyball.core.errors import BackendUnavailableError, InvalidInputError
from flyball.core.ids import ID_LENGTH, IdSource, id_offset
from flyball.domain.predictions.batches import BEGINNING, decode_batch, expand
from flyball.domain.predictions.masking import Mask
from flyball.domain.predictions.records import PredictionRecord
from flyball.domain.predictions.segments import SUFFIX, SegmentWriter

MaskOf = Callable[[str], Mask | None]
"""Tells what may not be written of an endpoint's fields; None where all may."""
OPEN_FOLDER = "open"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BATCH_ID = len(BEGINNING) + len('"id":"')
_MOST_IN_BATCH = 1_000_000
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PredictionRecord).decode


class LogUnavailableError(BackendUnavailableError):
    """The prediction log cannot be written, so nothing may be answered."""

    code = "predictions/log-unavailable"

    def __init__(self, endpoint: str, reason: str, *, is_full: bool) -> None:
        super().__init__(
            f"the prediction log of {endpoint!r} cannot be written ({reason}), so nothing is answered",
            hint="Free some disk space; requests are answered again at once." if is_full else "",
        )


class SegmentLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When a writer closes a segment and begins the next.

    Attributes:
        rows: After so many rows.
        size_bytes: After so many bytes.
        age: After so long; None for never, where somebody else calls `PredictionLog.rotate`.
        hasty_age: The same where somebody waits for what is logged, such as the guards of a rollout.
    """

    rows: int = 20_000
    size_bytes: int = 32_000_000
    age: timedelta | None = timedelta(seconds=30)
    hasty_age: timedelta = timedelta(seconds=5)


class PredictionLog:
    """This process's writers, one for each endpoint. Safe to call from several threads.

    Args:
        root: The folder of all endpoints' predictions.
        clock: Tells the age of segments.
        ids: Names segments.
        limits: When a segment is closed.
        mask_of: Tells what may not be written of an endpoint's fields.
        is_synced: Whether what is appended survives a power cut, too; those that are appended together share the wait.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        ids: IdSource,
        limits: SegmentLimits | None = None,
        mask_of: MaskOf | None = None,
        *,
        is_synced: bool = False,
    ) -> None:
        self._root = root
        self._clock = clock
        self._ids = ids
        self._limits = limits or SegmentLimits()
        self.mask_of: MaskOf = mask_of or (lambda endpoint: None)
        self._is_synced = is_synced
        self._lock = threading.Lock()
        self._waits = threading.local()
        self._writers: dict[str, SegmentWriter] = {}
        self._opened_at: dict[str, datetime] = {}
        self._pid = os.getpid()

    def append(self, endpoint: str, records: Sequence[PredictionRecord]) -> None:
        """Write the records of one request; when it returns, they survive the end of this process.

        Raises:
            LogUnavailableError: They could not all be written; none of them may be answered.
        """
        if records:
            mask = self.mask_of(endpoint)
            self._write(endpoint, _make_lines(records if mask is None else map(mask.record, records)), len(records))

    def append_lines(self, endpoint: str, lines: bytes, rows: int) -> None:
        """Write lines of `make_line` that hold ``rows`` predictions; see `append`."""
        mask = self.mask_of(endpoint)
        if mask is not None:
            records = [record for line in lines.splitlines() for record in _read_line(line) or ()]
            lines = _make_lines(map(mask.record, records))
        self._write(endpoint, lines, rows)

    def _write(self, endpoint: str, lines: bytes, rows: int) -> None:
        with self._lock:
            try:
                writer = self._writer(endpoint)
                writer.append(lines, rows)
            except OSError as error:
                self._drop(endpoint)
                raise _unavailable(endpoint, error) from error
            size_bytes = writer.size_bytes
            if writer.rows >= self._limits.rows or size_bytes >= self._limits.size_bytes:
                self._drop(endpoint)
        if self._is_synced:
            self._sync(endpoint, writer, size_bytes)

    def _sync(self, endpoint: str, writer: SegmentWriter, size_bytes: int) -> None:
        begun_s = monotonic_s()
        try:
            writer.sync(size_bytes)
        except OSError as error:
            with self._lock:
                if self._writers.get(endpoint) is writer:
                    self._drop(endpoint)
            raise _unavailable(endpoint, error) from error
        finally:
            self._waits.total_s = self.waited_s() + monotonic_s() - begun_s

    def waited_s(self) -> float:
        """Return for how long this thread has waited for the disk in all."""
        total_s: float = getattr(self._waits, "total_s", 0.0)
        return total_s

    def rotate(self) -> None:
        """Close every open segment, so that all that was logged so far can be sealed."""
        with self._lock:
            for endpoint in list(self._writers):
                self._drop(endpoint)

    def rotate_if_due(self, hasty: Collection[str] = ()) -> None:
        """Close the segments that are old enough; call it now and then, for times without traffic.

        Args:
            hasty: The endpoints for whose predictions somebody waits.
        """
        with self._lock:
            for endpoint in [name for name in self._writers if self._is_due(name, is_hasty=name in hasty)]:
                self._drop(endpoint)

    def _writer(self, endpoint: str) -> SegmentWriter:
        if self._pid != os.getpid():
            # After a fork the files belong to the parent; closing our copies does not unlock its own.
            self._writers, self._pid = {}, os.getpid()
        if endpoint in self._writers and self._is_due(endpoint):
            self._drop(endpoint)
        writer = self._writers.get(endpoint)
        if writer is None:
            folder = self._root / check_endpoint(endpoint) / OPEN_FOLDER
            writer = SegmentWriter(folder, self._ids.new(), endpoint, is_synced=self._is_synced)
            self._writers[endpoint] = writer
            self._opened_at[endpoint] = self._clock.now()
        return writer

    def _is_due(self, endpoint: str, *, is_hasty: bool = False) -> bool:
        age = self._limits.age
        if age is not None and is_hasty:
            age = min(age, self._limits.hasty_age)
        return age is not None and self._clock.now() - self._opened_at[endpoint] >= age

    def _drop(self, endpoint: str) -> None:
        writer = self._writers.pop(endpoint, None)
        if writer is not None:
            writer.close()


def _unavailable(endpoint: str, error: OSError) -> LogUnavailableError:
    return LogUnavailableError(endpoint, error.strerror or str(error), is_full=error.errno in _NO_SPACE)


class SegmentContent(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment holds.

    Attributes:
        records: The whole records, in the order in which they were written.
        damaged: How many lines inside it cannot be read; the cut-off end of a dead writer's file is none of them.
    """

    records: list[PredictionRecord]
    damaged: int


def make_line(text: bytes) -> bytes:
    """Return the line of a record's JSON."""
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _make_lines(records: Iterable[PredictionRecord]) -> bytes:
    return b"".join([make_line(_encode(record)) for record in records])


def read_segment(path: Path) -> SegmentContent:
    """Read a segment; one that is still written to is read up to its last whole line.

    Raises:
        FileNotFoundError: It was sealed meanwhile.
    """
    pieces = list(read_pieces(path))
    return SegmentContent(
        records=[record for piece in pieces for record in piece.records],
        damaged=sum(piece.damaged for piece in pieces),
    )


def read_pieces(path: Path, rows: int = 4_096) -> Iterator[SegmentContent]:
    """Yield a segment some rows at a time, so that a large one need not fit into memory; see `read_segment`."""
    records: list[PredictionRecord] = []
    damaged, is_last_broken = 0, False
    with path.open("rb") as file:
        for line in file:
            # The last line, whole or not, may be what a dead writer left: what was broken before it is damage.
            damaged += is_last_broken and line.endswith(b"\n")
            found = _read_line(line.removesuffix(b"\n"))
            is_last_broken = found is None
            records.extend(found or ())
            if len(records) >= rows:
                yield SegmentContent(records=records, damaged=damaged)
                records, damaged = [], 0
    if records or damaged:
        yield SegmentContent(records=records, damaged=damaged)


def find_in_segment(path: Path, prediction_id: str) -> PredictionRecord | None:
    """Return one record of a segment, without decoding more than must be."""
    data = path.read_bytes()
    start = data.find(b'{"id":"%s"' % prediction_id.encode())
    if start >= 0:
        return _find_in_line(data, start, prediction_id)
    # Of a batch only the first id is written; the others follow it.
    start = data.find(BEGINNING)
    while start >= 0:
        first = data[start + _BATCH_ID : start + _BATCH_ID + ID_LENGTH].decode("latin-1")
        if 0 <= id_offset(first, prediction_id) < _MOST_IN_BATCH:
            found = _find_in_line(data, start, prediction_id)
            if found is not None:
                return found
        start = data.find(BEGINNING, start + 1)
    return None


def _find_in_line(data: bytes, start: int, prediction_id: str) -> PredictionRecord | None:
    end = data.find(b"\n", start)
    if end < 0:
        return None
    records = _read_line(data[data.rfind(b"\n", 0, start) + 1 : end]) or []
    return next((record for record in records if record.id == prediction_id), None)


def list_open_segments(root: Path, endpoint: str) -> list[Path]:
    """Return the segments not yet removed after sealing, oldest first; finished ones are among them."""
    folder = root / endpoint / OPEN_FOLDER
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(SUFFIX))  # noqa: PTH208
    except FileNotFoundError:
        return []


def list_endpoints(root: Path) -> list[str]:
    """Return the endpoints that ever logged a prediction."""
    try:
        return sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []


@contextmanager
def claiming_finished(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Lock those segments whose writer is gone, for as long as the block lasts, and yield them."""
    held, finished = [], []
    try:
        for path in paths:
            with suppress(FileNotFoundError):
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                held.append(file)
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    finished.append(path)
        yield finished
    finally:
        for file in held:
            os.close(file)


def check_endpoint(endpoint: str) -> str:
    """Return the name if it can name a folder.

    Raises:
        InvalidInputError: It cannot.
    """
    if not _NAME.fullmatch(endpoint):
        raise InvalidInputError(
            f"{endpoint!r} cannot name an endpoint", hint="Use letters, digits, '-', '_' and '.' only."
        )
    return endpoint


def _read_line(line: bytes) -> list[PredictionRecord] | None:
    text = line[9:]
    try:
        if int(line[:8], 16) != zlib.crc32(text):
            return None
        return expand(decode_batch(text)) if text.startswith(BEGINNING) else [_decode(text)]
    except (ValueError, msgspec.DecodeError):
        return None
