import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.core.errors import InvalidInputError
from flyball.core.ids import IdSource
from flyball.domain.predictions.log import (
    LogUnavailableError,
    PredictionLog,
    SegmentLimits,
    claiming_finished,
    list_open_segments,
    read_pieces,
    read_segment,
)
from flyball.domain.predictions.service import PredictionService


def test_what_was_appended_is_read_back_at_once(service: PredictionService, new_record: Any, tmp_path: Path) -> None:
    records = [new_record(customer) for customer in range(3)]
    service.log.append("credit", records[:2])
    service.log.append("credit", records[2:])
    [segment] = list_open_segments(tmp_path / "predictions", "credit")
    content = read_segment(segment)
    assert [record.id for record in content.records] == [record.id for record in records]
    assert content.records[0].request_fields == {"customer_id": 0, "income": 10.5}
    assert content.damaged == 0


def test_a_torn_tail_is_dropped_at_every_length(service: PredictionService, new_record: Any, tmp_path: Path) -> None:
    service.log.append("credit", [new_record(1), new_record(2)])
    [segment] = list_open_segments(tmp_path / "predictions", "credit")
    whole = segment.read_bytes()
    first_line = whole.index(b"\n") + 1

    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, len(whole) - 1))
    def only_whole_lines_count(length: int) -> None:
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(whole[:length])
        content = read_segment(torn)
        # The end of the last line may be missing: its checksum says that it is whole.
        assert len(content.records) == (length >= first_line - 1) + (length >= len(whole) - 1)
        assert content.damaged == 0

    only_whole_lines_count()


def test_a_changed_byte_costs_its_line_only_and_is_counted(
    service: PredictionService, new_record: Any, tmp_path: Path
) -> None:
    service.log.append("credit", [new_record(number) for number in range(3)])
    [segment] = list_open_segments(tmp_path / "predictions", "credit")
    data = bytearray(segment.read_bytes())
    data[40] ^= 1
    segment.write_bytes(data)
    content = read_segment(segment)
    assert (len(content.records), content.damaged) == (2, 1)


def test_a_segment_reads_alike_whole_and_in_pieces(service: PredictionService, new_record: Any, tmp_path: Path) -> None:
    service.log.append("credit", [new_record(number) for number in range(7)])
    [segment] = list_open_segments(tmp_path / "predictions", "credit")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:2], b"not a line\n", *lines[2:], b"nor this\n", b"torn"]))
    whole = read_segment(segment)
    assert (len(whole.records), whole.damaged) == (7, 1), "what may be the end of a dead writer's file is no damage"
    for rows in range(1, 9):
        pieces = list(read_pieces(segment, rows))
        assert [record for piece in pieces for record in piece.records] == whole.records
        assert sum(piece.damaged for piece in pieces) == whole.damaged
        assert max(len(piece.records) for piece in pieces) == min(rows, 7)


def test_a_segment_is_closed_by_rows_and_by_age(tmp_path: Path, clock: SimulatedClock, new_record: Any) -> None:
    limits = SegmentLimits(rows=2, age=timedelta(seconds=10))
    log = PredictionLog(tmp_path, clock, IdSource(clock), limits)
    for number in range(3):
        log.append("credit", [new_record(number)])
    assert len(list_open_segments(tmp_path, "credit")) == 2
    clock.advance(timedelta(seconds=11))
    log.append("credit", [new_record(4)])
    assert len(list_open_segments(tmp_path, "credit")) == 3
    clock.advance(timedelta(seconds=11))
    log.rotate_if_due()
    with claiming_finished(list_open_segments(tmp_path, "credit")) as finished:
        assert len(finished) == 3


def test_where_somebody_waits_segments_are_closed_sooner(
    tmp_path: Path, clock: SimulatedClock, new_record: Any
) -> None:
    log = PredictionLog(tmp_path, clock, IdSource(clock))
    for endpoint in ("credit", "parcel"):
        log.append(endpoint, [new_record()])
    clock.advance(timedelta(seconds=6))
    log.rotate_if_due(["credit"])
    found = {}
    for endpoint in ("credit", "parcel"):
        with claiming_finished(list_open_segments(tmp_path, endpoint)) as finished:
            found[endpoint] = len(finished)
    assert found == {"credit": 1, "parcel": 0}


def test_what_shall_survive_a_power_cut_is_on_the_disk_before_append_returns(
    tmp_path: Path, clock: SimulatedClock, new_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(os.fstat(file).st_size))
    log = PredictionLog(tmp_path, clock, IdSource(clock), is_synced=True)
    log.append("credit", [new_record(1)])
    log.append("credit", [new_record(2), new_record(3)])
    [segment] = list_open_segments(tmp_path, "credit")
    assert synced[-1] == segment.stat().st_size
    assert len(synced) == 2

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(LogUnavailableError, match="Input/output"):
        log.append("credit", [new_record(4)])
    assert len(read_segment(segment).records) == 3, "what may not be on the disk was taken back"


def test_threads_that_wait_for_the_disk_share_the_wait_and_its_failure(
    tmp_path: Path, clock: SimulatedClock, new_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    is_broken = threading.Event()

    def slowly(file: int) -> None:
        size = os.fstat(file).st_size
        time.sleep(0.05)
        syncs.append(size)
        if is_broken.is_set():
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", slowly)
    log = PredictionLog(tmp_path, clock, IdSource(clock), SegmentLimits(rows=100, age=None), is_synced=True)

    def append(number: int) -> bool:
        try:
            log.append("credit", [new_record(number)])
        except LogUnavailableError:
            return False
        return True

    with ThreadPoolExecutor(30) as threads:
        assert all(threads.map(append, range(30)))
    assert len(syncs) <= 6, "each waited alone"
    is_broken.set()
    with ThreadPoolExecutor(10) as threads:
        assert not any(threads.map(append, range(100, 110)))
    is_broken.clear()
    assert append(200)
    log.rotate()
    found = [
        record.entity["customer_id"]
        for path in list_open_segments(tmp_path, "credit")
        for record in read_segment(path).records
    ]
    assert sorted(found) == [*range(30), 200], "what was answered is there, and nothing else"


def test_only_a_segment_without_a_writer_is_finished(tmp_path: Path, clock: SimulatedClock, new_record: Any) -> None:
    log = PredictionLog(tmp_path, clock, IdSource(clock))
    log.append("credit", [new_record()])
    with claiming_finished(list_open_segments(tmp_path, "credit")) as finished:
        assert finished == []
    log.rotate()
    with claiming_finished(list_open_segments(tmp_path, "credit")) as finished:
        assert len(finished) == 1


def test_a_forked_child_does_not_keep_a_closed_segment_open(
    tmp_path: Path, clock: SimulatedClock, new_record: Any
) -> None:
    log = PredictionLog(tmp_path, clock, IdSource(clock))
    log.append("credit", [new_record()])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        log.rotate()
        with claiming_finished(list_open_segments(tmp_path, "credit")) as finished:
            assert len(finished) == 1
    finally:
        os.close(writing)
        os.waitpid(child, 0)
        os.close(reading)


def test_a_full_disk_refuses_and_leaves_no_half_line(
    tmp_path: Path, clock: SimulatedClock, new_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PredictionLog(tmp_path, clock, IdSource(clock))
    log.append("credit", [new_record(1)])
    write = os.write
    calls = iter([100])

    def nearly_full(file: int, data: bytes) -> int:
        room = next(calls, 0)
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, bytes(data)[:room])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", nearly_full)
        with pytest.raises(LogUnavailableError, match="No space left") as caught:
            log.append("credit", [new_record(2)])
    assert "disk space" in caught.value.hint
    log.append("credit", [new_record(3)])
    customers = [
        record.entity["customer_id"]
        for path in list_open_segments(tmp_path, "credit")
        for record in read_segment(path).records
    ]
    assert customers == [1, 3]


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, clock: SimulatedClock, new_record: Any) -> None:
    log = PredictionLog(tmp_path, clock, IdSource(clock))
    with pytest.raises(InvalidInputError, match="cannot name an endpoint"):
        log.append("../credit", [new_record()])


WRITER = """
import sys
from pathlib import Path
from flyball.core.clock import SystemClock
from flyball.core.durations import to_us
from flyball.core.ids import IdSource
from flyball.domain.predictions.log import PredictionLog, SegmentLimits
from flyball.domain.predictions.records import PredictionRecord

clock = SystemClock()
ids = IdSource(clock)
log = PredictionLog(Path(sys.argv[1]), clock, ids, SegmentLimits(rows=50))
while True:
    batch = [
        PredictionRecord(id=ids.new(), endpoint="credit", at_us=to_us(clock.now()), variant="live", version="m/1")
        for _ in range(3)
    ]
    log.append("credit", batch)
    print("\\n".join(record.id for record in batch), flush=True)  # the answer
"""


@pytest.mark.parametrize("answers", [1, 40, 333])
def test_kill_loses_no_answered_prediction(new_service: Any, tmp_path: Path, answers: int) -> None:
    root = tmp_path / "predictions"
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(root)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    answered = [writer.stdout.readline().strip() for _ in range(answers)]
    writer.send_signal(signal.SIGKILL)
    answered += [line.strip() for line in writer.stdout if line.endswith("\n")]
    writer.wait()
    writer.stdout.close()
    service = new_service()
    [result] = service.seal()
    logged = service.figures("credit")["id"].to_list()
    assert set(answered) <= set(logged)
    assert len(logged) == len(set(logged)) == result.rows
    assert list_open_segments(root, "credit") == []
