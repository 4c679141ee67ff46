"""A program's own run: spooled first, sent in order, each record once."""

import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flyball as fb
from flyball.core.clock import SystemClock
from flyball.core.errors import BackendUnavailableError, ConflictError, InvalidInputError, NotFoundError
from flyball.core.ids import IdSource
from flyball.domain.tracking.live_runs import LiveRun
from flyball.domain.tracking.records import Batch, Finished, Kept, Params, Point, Record, Started, Tags
from flyball.domain.tracking.runs import RunStatus
from flyball.domain.tracking.shipping import Sent, send_left_behind
from flyball.domain.tracking.spool import Spool, SpoolReader, list_refused, list_spools, taking_over
from flyball.workspace.home import Home
from flyball.workspace.live_runs import HomeDestination


class Flaky:
    """A destination that loses requests and answers by chance: what it kept, it may not have said."""

    def __init__(self, inner: HomeDestination, seed: int, failures: int) -> None:
        self._inner = inner
        self._random = random.Random(seed)
        self._failures = failures

    def receive(self, run_id: str, first: int, records: list[Record]) -> int:
        self._fail()
        kept = self._inner.receive(run_id, first, records)
        self._fail()
        return kept

    def put_blob(self, path: Path, digest: str) -> None:
        self._fail()
        self._inner.put_blob(path, digest)
        self._fail()

    def close(self) -> None:
        pass

    def _fail(self) -> None:
        if self._failures and self._random.random() < 0.5:
            self._failures -= 1
            raise BackendUnavailableError("it is away")


class Away:
    """A destination that never answers."""

    def receive(self, run_id: str, first: int, records: list[Record]) -> int:
        raise BackendUnavailableError("it is away")

    def put_blob(self, path: Path, digest: str) -> None:
        raise BackendUnavailableError("it is away")

    def close(self) -> None:
        pass


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path, tmp_path / "home")
    yield home
    home.db.close()


def open_run(home: Home, destination: object, name: str = "") -> LiveRun:
    return LiveRun(
        IdSource(home.clock).new(),
        home.home / "spool",
        destination,  # type: ignore[arg-type]
        home.clock,
        name=name,
        experiment="tests",
        project_dir=home.project_dir,
    )


def destination(home: Home) -> HomeDestination:
    return HomeDestination(home.project_dir, home.home)


def send_rest(home: Home) -> Sent:
    return send_left_behind(home.home / "spool", lambda _: destination(home), home.clock)


def make_spool(home: Home, run_id: str, records: list[Record], address: str = "") -> Path:
    """Write a spool as a program leaves it that was killed."""
    spool = Spool(home.home / "spool" / run_id, address)
    for record in records:
        spool.append(record)
    spool.close()
    return spool.folder


def run_program(home: Home, text: str) -> subprocess.CompletedProcess[str]:
    """Run a script that logs to the home, with ``run`` open."""
    begin = f"import os, sys, flyball as fb\nrun = fb.run('it', home={str(home.home)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", begin + text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=home.project_dir,
    )


def test_all_that_is_logged_is_kept_when_the_block_ends(home: Home) -> None:
    with open_run(home, destination(home), "first") as run:
        fb.log_metric("loss", 0.5, step=1)
        fb.log_metric("loss", math.nan, step=2)
        fb.log_metric("loss", -math.inf, step=3)
        fb.set_tag("team", "risk")
        fb.log_artifact("notes/plan.txt", "hello")
        run.log_params({"depth": 3, "name": "x", "odd": object})
    found = home.tracking.describe_run(run.id)
    assert found.run.status is RunStatus.SUCCEEDED
    assert found.run.facts is not None
    assert found.params["depth"] == 3
    assert found.params["odd"] == "<class 'object'>"
    assert found.tags["team"] == "risk"
    assert home.blobs.path(found.artifacts[0].digest).read_text() == "hello"
    values = [point.value for point in home.tracking.list_points(run.id, "loss")]
    assert values[0] == 0.5 and math.isnan(values[1]) and values[2] == -math.inf
    assert list_spools(home.home / "spool") == []


def test_a_block_that_raises_makes_a_failed_run(home: Home) -> None:
    with pytest.raises(ZeroDivisionError), open_run(home, destination(home)) as run:
        _ = 1 / 0
    found = home.tracking.get_run(run.id)
    assert (found.status, found.error) == (RunStatus.FAILED, "ZeroDivisionError: division by zero")


def test_an_ended_run_takes_nothing_more(home: Home) -> None:
    run = open_run(home, destination(home))
    run.finish()
    run.finish()
    with pytest.raises(ConflictError, match="has ended"):
        run.log_metric("loss", 1.0)


def test_an_artifact_is_kept_as_it_was_when_it_was_logged(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"before")
    with open_run(home, destination(home)) as run:
        run.log_artifact("model.bin", file)
        file.write_bytes(b"after!!")
    kept = home.tracking.describe_run(run.id).artifacts[0]
    assert home.blobs.path(kept.digest).read_bytes() == b"before"
    assert kept.size_bytes == 6


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("", 1.0, "no name"), ("a\0b", 1.0, "no name"), ("loss", "high", "no number"), ("loss", None, "no number")],
)
def test_what_is_no_metric_is_refused_by_name(home: Home, name: str, value: object, words: str) -> None:
    with open_run(home, destination(home)) as run, pytest.raises(InvalidInputError, match=words):
        run.log_metric(name, value)  # type: ignore[arg-type]


def test_what_is_neither_text_nor_bytes_is_refused_by_name(home: Home) -> None:
    with open_run(home, destination(home)) as run:
        with pytest.raises(InvalidInputError, match=r"'plan\.json' cannot be kept: {'a': 1} is neither"):
            run.log_artifact("plan.json", {"a": 1})  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="'depth' names no parameters"):
            run.log_params("depth")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="5 is no text"):
        fb.run(5, home=home.home)  # type: ignore[arg-type]


def test_a_disk_without_room_is_told_and_leaves_what_was_logged(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from flyball.core.errors import BackendUnavailableError\n"
        "from flyball.domain.tracking.spool import Spool\n"
        "from pathlib import Path\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "first = spool.put_bytes(b'x' * 9_000)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))\n"
        "try:\n    spool.put_bytes(b'x' * 9_000)\n"
        "except BackendUnavailableError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "1")], capture_output=True, text=True, timeout=60, check=True
    )
    assert "cannot be spooled" in done.stdout
    assert [file.stat().st_size for file in (tmp_path / "1" / "blobs").iterdir()] == [9_000]


@pytest.mark.parametrize("name", ["../up", "/etc/x", "a/../../b"])
def test_an_artifact_cannot_leave_its_run(home: Home, name: str) -> None:
    with open_run(home, destination(home)) as run, pytest.raises(InvalidInputError, match="Invalid path"):
        run.log_artifact(name, b"")


def test_a_run_without_an_answer_stays_on_disk_and_is_sent_once_later(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(home, Away())
    for step in range(5):
        run.log_metric("loss", float(step), step=step)
    run.finish(timeout=timedelta(milliseconds=50))
    assert run.id in capsys.readouterr().err
    assert send_rest(home).complete == [run.id]
    assert send_rest(home).complete == []
    assert home.tracking.get_run(run.id).status is RunStatus.SUCCEEDED
    assert len(home.tracking.list_points(run.id, "loss")) == 5


def test_a_spool_whose_program_works_is_left_to_it(home: Home) -> None:
    run = open_run(home, Away())
    assert send_rest(home).complete == []
    run.finish(timeout=timedelta(milliseconds=10))


def test_a_killed_program_loses_nothing_it_logged(home: Home) -> None:
    program = f"""
import os, pathlib
from flyball.core.clock import SystemClock
from flyball.domain.tracking.live_runs import LiveRun
from flyball.core.errors import BackendUnavailableError
class Away:
    def receive(self, *a): raise BackendUnavailableError("away")
    def put_blob(self, *a): raise BackendUnavailableError("away")
    def close(self): pass
run = LiveRun("r1", pathlib.Path({str(home.home / "spool")!r}), Away(), SystemClock(), experiment="e",
              project_dir=pathlib.Path("."))
for step in range(1000):
    run.log_metric("loss", step, step=step)
print("logged", flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-9, "logged\n")
    assert send_rest(home).complete == ["r1"]
    found = home.tracking.get_run("r1")
    assert (found.status, found.error) == (RunStatus.FAILED, "its program ended without closing it")
    assert [point.value for point in home.tracking.list_points("r1", "loss")] == [float(step) for step in range(1000)]


def test_forked_children_log_to_the_same_run(home: Home) -> None:
    with open_run(home, destination(home)) as run:
        child = os.fork()
        if child == 0:
            run.log_metric("child", 1.0)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert len(home.tracking.list_points(run.id, "child")) == 1


def test_threads_log_without_losing_a_point(home: Home) -> None:
    with open_run(home, destination(home)) as run:
        threads = [
            threading.Thread(
                target=lambda name: [run.log_metric(name, 1.0, step=step) for step in range(500)], args=(f"m{number}",)
            )
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(home.tracking.list_points(run.id, f"m{number}")) for number in range(4)] == [500] * 4


_records = st.lists(
    st.one_of(
        st.builds(
            Point,
            st.sampled_from(["a", "b"]),
            st.floats(allow_nan=False),
            st.integers(0, 3),
            st.integers(1, 2**40),
        ),
        st.builds(Params, st.dictionaries(st.sampled_from("xyz"), st.just("1"), min_size=1)),
        st.builds(Tags, st.dictionaries(st.sampled_from("xyz"), st.text("ab", max_size=3), min_size=1)),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=_records, seed=st.integers(0, 2**20), failures=st.integers(0, 6), cut=st.integers(0, 40))
def test_however_often_sending_fails_each_record_is_kept_once_and_in_order(
    home: Home, records: list[Record], seed: int, failures: int, cut: int
) -> None:
    run_id = IdSource(SystemClock()).new()
    root = home.home / "spools" / run_id
    spool = Spool(root / run_id)
    spool.append(Started("", "law", "user", "", 1))
    for record in records:
        spool.append(record)
    spool.close()
    flaky = Flaky(destination(home), seed, failures)
    for _ in range(failures + 1):
        if send_left_behind(root, lambda _: flaky, home.clock).complete:
            break
    found = home.tracking.describe_run(run_id)
    assert found.run.status is RunStatus.FAILED  # nobody said how it ended
    points = {(p.name, p.step, p.at_us, p.value) for p in records if isinstance(p, Point)}
    assert sum(len(home.tracking.list_points(run_id, name)) for name in "ab") == len(points)
    tags: dict[str, str] = {}
    for record in records:
        if isinstance(record, Tags):
            tags |= record.values
    assert found.tags == tags


@given(cut=st.integers(1, 200))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_record_ends_what_can_be_read_and_hurts_nothing_before_it(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / os.urandom(4).hex()
    spool = Spool(folder)
    written = [Point("loss", float(step), step, step) for step in range(10)]
    for record in written:
        spool.append(record)
    spool.close()
    file = folder / "records"
    content = file.read_bytes()
    file.write_bytes(content[: max(0, len(content) - cut)])
    read = SpoolReader(folder).read(100)
    assert read == written[: len(read)]
    assert len(read) >= 10 - 1 - cut // (len(content) // 10)


def test_only_one_takes_a_spool_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "r")
    with taking_over(tmp_path / "r") as is_ours:
        assert not is_ours
    spool.close()
    with taking_over(tmp_path / "r") as is_ours, taking_over(tmp_path / "r") as is_second:
        assert is_ours and not is_second


def test_records_that_skip_others_are_not_kept_but_answered_with_where_to_go_on(home: Home) -> None:
    started = Started("", "e", "user", "", 1)
    assert home.tracking.receive(Batch(run_id="r", first=0, records=[started])) == 1
    assert home.tracking.receive(Batch(run_id="r", first=3, records=[Tags({"a": "b"})])) == 1
    assert home.tracking.describe_run("r").tags == {}


def test_a_run_goes_on_after_its_store_was_restored_from_a_backup(home: Home) -> None:
    """Records that were acknowledged and are gone again are sent once more."""
    inner = destination(home)

    class Forgetful:
        has_forgotten = False

        def receive(self, run_id: str, first: int, records: list[Record]) -> int:
            kept = inner.receive(run_id, first, records)
            if kept > 5 and not self.has_forgotten:
                self.has_forgotten = True
                with home.db.begin() as tx:
                    for table, column in (("tracking_run", "id"), ("tracking_received", "run_id")):
                        tx.execute(f"DELETE FROM {table} WHERE {column} = ?", (run_id,))
            return kept

        def put_blob(self, path: Path, digest: str) -> None:
            inner.put_blob(path, digest)

        def close(self) -> None:
            inner.close()

    run = open_run(home, Forgetful())
    for step in range(200):
        run.log_metric("loss", float(step), step=step)
        time.sleep(0.001)
    run.finish()
    assert [point.value for point in home.tracking.list_points(run.id, "loss")] == [float(step) for step in range(200)]


def test_what_is_bound_for_one_server_goes_nowhere_else_and_holds_up_nothing(home: Home) -> None:
    started = Started("", "e", "user", "", 1)
    make_spool(home, "1", [started], "http://127.0.0.1:9")
    make_spool(home, "2", [started])
    asked = []

    def find(address: str) -> object:
        asked.append(address)
        return Away() if address else destination(home)

    sent = send_left_behind(home.home / "spool", find, home.clock)  # type: ignore[arg-type]
    assert (sent.complete, sent.waiting) == (["2"], {"1": "it is away"})
    assert asked == ["http://127.0.0.1:9", ""]
    assert [run.id for run in home.tracking.list_runs()] == ["2"]
    assert [folder.name for folder in list_spools(home.home / "spool")] == ["1"]


def test_a_spool_that_is_refused_is_set_aside_with_the_reason(home: Home) -> None:
    make_spool(home, "1", [Tags({"a": "b"})])
    assert "1" in send_rest(home).refused
    assert send_rest(home) == Sent(complete=[], waiting={}, refused={})
    [(folder, reason)] = list_refused(home.home / "spool").items()
    assert (folder / "records").exists() and "no run" in reason


def test_a_spool_all_of_which_arrived_is_closed_as_its_program_closed_it(home: Home) -> None:
    """The answer to the last records was lost, and then the program was killed."""
    records: list[Record] = [Started("", "e", "user", "", 1), Finished(RunStatus.SUCCEEDED, "", 2)]
    home.tracking.receive(Batch(run_id="1", first=0, records=records))
    make_spool(home, "1", records)
    assert send_rest(home).complete == ["1"]
    assert home.tracking.get_run("1").status is RunStatus.SUCCEEDED


def test_a_record_longer_than_what_is_read_at_once_is_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "r")
    long: list[Record] = [Tags({"t": "x" * 3_000_000}), Point("loss", 1.0, 0, 0)]
    for record in long:
        spool.append(record)
    reader = SpoolReader(tmp_path / "r")
    assert reader.read(1) + reader.read(10) == long
    spool.close()


def test_thousands_of_long_parameters_are_kept_as_far_as_they_say_something(home: Home) -> None:
    with open_run(home, destination(home)) as run:
        run.log_params({f"p{number}": "ä" * 10_000 for number in range(1_000)})
        run.log_params({"path": "caf\udce9\0", "list": list(range(5_000))})
    params = home.tracking.describe_run(run.id).params
    assert len(params) == 1_002
    assert params["p0"] == "ä" * 1_999 + "…"
    assert params["path"] == "caf?\N{REPLACEMENT CHARACTER}"
    assert params["list"].startswith("[0, 1, 2")


@pytest.mark.parametrize("value", ["x" * 8_001, "half \ud800"])
def test_a_tag_that_cannot_be_kept_is_refused(home: Home, value: str) -> None:
    with open_run(home, destination(home)) as run, pytest.raises(InvalidInputError, match=r"8,000|half of a sign"):
        run.set_tag("t", value)


@pytest.mark.parametrize("step", ["three", None, 1.5, math.nan, 2**63, math.inf])
def test_a_step_that_is_no_whole_number_is_refused(home: Home, step: object) -> None:
    with open_run(home, destination(home)) as run, pytest.raises(InvalidInputError, match="step of metric 'loss'"):
        run.log_metric("loss", 1.0, step=step)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("run.log_metric('a', 1)", RunStatus.SUCCEEDED),
        ("raise ValueError('no')", RunStatus.FAILED),
        ("with run: sys.exit(0)", RunStatus.SUCCEEDED),
        ("with run: sys.exit('no')", RunStatus.FAILED),
        ("with run: raise KeyboardInterrupt", RunStatus.CANCELLED),
    ],
)
def test_a_run_ends_as_its_program_does(home: Home, text: str, status: RunStatus) -> None:
    run_program(home, text)
    [found] = home.tracking.list_runs()
    assert found.status is status, found.error


def test_a_forked_child_that_ends_ends_no_run(home: Home) -> None:
    done = run_program(
        home,
        "if os.fork() == 0:\n    run.log_metric('child', 1)\n    sys.exit(0)\nos.wait()\nrun.log_metric('parent', 2)",
    )
    assert (done.returncode, done.stderr) == (0, "")
    [found] = home.tracking.list_runs()
    assert home.tracking.describe_run(found.id).metrics == {"child": 1.0, "parent": 2.0}
    assert found.status is RunStatus.SUCCEEDED


def test_logging_in_a_thread_without_saying_to_which_run_is_refused_with_what_to_say(home: Home) -> None:
    told: list[str] = []

    def work() -> None:
        try:
            fb.log_metric("loss", 1.0)
        except InvalidInputError as error:
            told.append(error.hint)

    with open_run(home, destination(home)):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "run.log_metric" in told[0]


def test_a_file_without_its_bytes_is_refused(home: Home) -> None:
    records: list[Record] = [Started("", "e", "user", "", 1), Kept("a", "0" * 64, 3), Finished(RunStatus.FAILED, "", 2)]
    with pytest.raises(NotFoundError, match="have not been sent"):
        home.tracking.receive(Batch(run_id="r", first=0, records=records))
    assert home.tracking.list_runs() == []
