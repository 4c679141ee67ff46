"""What the gateway did, for Prometheus: ``GET /metrics``.

The gateway may have several processes, of which any answers. Each writes its counts to a file of a shared folder once a
second and reads the others' when it is asked, so an answer is at most a second behind. A process that takes another's
place goes on from its counts, so that counters never go back.
"""

import re
import resource
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from flyball.core.errors import FlyballError
from flyball.core.files import write_bytes
from flyball.domain.serving.answers import Answer
from flyball.domain.serving.fleet import Line
from flyball.domain.serving.loads import LoadRecord
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.families import MEDIA_TYPE as MEDIA_TYPE
from flyball.server.inference.families import Family

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0)
_TOGETHER = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SILENT_S = 10.0
_VERSIONS = re.compile(r"\[[^\]]*\]")
"""The versions in a node's name, which would make ever new series."""
_PAGE_BYTES = resource.getpagesize()
_Snapshot = dict[str, list[tuple[tuple[str, ...], list[float]]]]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Snapshot).decode


class GatewayMetrics:
    """Counts of one process, and the way to those of the others. Used by one thread.

    Args:
        folder: Where the gateway's processes leave their counts for each other; alone without one.
        worker: The process's name among them, which whoever takes its place has too.

    Attributes:
        families: Everything that is counted.
        worker: The process's name.
    """

    def __init__(self, folder: Path | None = None, worker: str = "0") -> None:
        self._file = None if folder is None else folder / f"{worker}.json"
        self.worker = worker
        self.families: list[Family] = []
        of_request = ("endpoint", "protocol")
        count, tell = partial(self._add, "counter"), partial(self._add, "gauge")
        measure = partial(self._add, "histogram")
        self._requests = count("flyball_requests_total", "Requests by how they were answered.", *of_request, "code")
        self._responses = count("flyball_http_responses_total", "Responses of all addresses by HTTP status.", "code")
        self._duration = measure(
            "flyball_request_duration_seconds",
            "Time from a request's first byte to its answer.",
            *(*of_request, "version"),
            bounds=_SECONDS,
        )
        self._rows = measure("flyball_request_rows", "Rows of a request.", "endpoint", bounds=_ROWS)
        self._together = measure(
            "flyball_batch_requests", "Requests that one call of the model answered.", "endpoint", bounds=_TOGETHER
        )
        self._predictions = count(
            "flyball_predictions_total",
            "Rows by who answered and what became of them.",
            *("endpoint", "version", "variant", "status"),
        )
        self._nodes = count("flyball_graph_answers_total", "Rows by the node that answered.", "endpoint", "node")
        self._lookups = count("flyball_online_lookups_total", "Entities looked up online.", "view", "outcome")
        self._loads = count("flyball_model_loads_total", "Versions brought into memory.", "version", "outcome")
        self._load_duration = measure(
            "flyball_model_load_duration_seconds", "Time to bring a version into memory.", bounds=_LOAD_SECONDS
        )
        self._in_progress = tell("flyball_requests_in_progress", "Requests that are not answered yet.", "worker")
        self._waiting = tell("flyball_requests_waiting", "Requests to slow models that wait for a thread.", "worker")
        self._lag = tell("flyball_event_loop_lag_seconds", "How late the last wake-up came: what waits.", "worker")
        self._serving = tell(
            "flyball_model_info", "Versions that take traffic.", "endpoint", "version", "role", "stage"
        )
        self._ready = tell("flyball_endpoint_ready", "Whether an endpoint can answer.", "endpoint")
        self._process = [
            tell("process_resident_memory_bytes", "Memory in use.", "worker"),
            count("process_cpu_seconds_total", "Processor time used.", "worker"),
            tell("process_open_fds", "Open files and connections.", "worker"),
        ]
        self._take_up()

    def _add(self, kind: str, name: str, text: str, *labels: str, bounds: tuple[float, ...] = ()) -> Family:
        family = Family(name, kind, text, labels, bounds=bounds)
        self.families.append(family)
        return family

    def count_begin(self) -> None:
        """Count a request that came."""
        self._in_progress.add((self.worker,))

    def count_end(self, exchange: Exchange, code: str, duration_s: float) -> None:
        """Count a request that was answered; of no endpoint when it asked for none that exists."""
        self._in_progress.add((self.worker,), -1.0)
        if exchange.endpoint or exchange.protocol != "other":
            self._requests.add((exchange.endpoint, exchange.protocol, code))
        if exchange.endpoint:
            self._duration.observe((exchange.endpoint, exchange.protocol, exchange.version), duration_s)
            self._rows.observe((exchange.endpoint,), exchange.rows)
            if exchange.together:
                self._together.observe((exchange.endpoint,), exchange.together)

    def count_response(self, status: int) -> None:
        """Count a response by its HTTP status."""
        self._responses.add((str(status),))

    def count_rows(self, answers: Iterable[Answer]) -> None:
        """Count answers by endpoint, version, variant and status."""
        for answer in answers:
            self._predictions.add((answer.endpoint, answer.model_version, answer.variant, answer.status))
            if answer.node is not None:
                self._nodes.add((answer.endpoint, _VERSIONS.sub("", answer.node)))

    def count_predictions(self, endpoint: str, version: str, variant: str, rows: int) -> None:
        """Count rows that were answered together."""
        self._predictions.add((endpoint, version, str(variant), "ok"), float(rows))

    @property
    def in_progress(self) -> float:
        """How many requests are not answered yet."""
        return self._in_progress.series.get((self.worker,), [0.0])[0]

    def set_lag(self, lag_s: float) -> None:
        """Note how late the event loop is."""
        self._lag.set((self.worker,), max(0.0, lag_s))

    def set_waiting(self, requests: int) -> None:
        """Note how many requests wait for a thread."""
        self._waiting.set((self.worker,), float(requests))

    def describe_lines(self, lines: Mapping[str, Line]) -> None:
        """Note who takes traffic now."""
        self._serving.series.clear()
        self._ready.series.clear()
        for name, line in lines.items():
            self._ready.set((name,), float(line.live is not None))
            stage = line.plan.stage or ""
            for role, loaded in (("live", line.live), ("candidate", line.candidate)):
                if loaded is not None:
                    self._serving.set((name, loaded.ref, role, stage if role == "candidate" else ""), 1.0)

    def count_loads(self, loads: Iterable[LoadRecord]) -> None:
        """Count versions that were brought into memory since the last call."""
        for load in loads:
            self._loads.add((load.version, "failed" if load.has_failed else "loaded"))
            self._load_duration.observe((), load.duration_s)

    def count_lookups(self, lookups: Mapping[tuple[str, str], int]) -> None:
        """Count entities that were looked up since the last call, by view and outcome."""
        for (view, outcome), count in lookups.items():
            self._lookups.add((view, outcome), count)

    def publish(self) -> None:
        """Leave the counts for the other processes."""
        if self._file is None:
            return
        self._measure_process()
        counts = {family.name: list(family.series.items()) for family in self.families}
        # Not flushed to the disk: after a crash of the machine counters may begin anew.
        with suppress(OSError, FlyballError):  # such as on a full disk: they are left a second later
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._file, _encode(counts), durable=False)

    def write(self) -> bytes:
        """Return the counts of all processes in Prometheus's text format."""
        self._measure_process()
        lines: list[str] = []
        others = self._read_others()
        for family in self.families:
            summed = msgspec.structs.replace(family, series=dict(family.series))
            for snapshot, is_alive in others:
                if is_alive or (family.kind != "gauge" and family not in self._process):
                    summed.merge(dict(snapshot.get(family.name, [])))
            lines.extend(summed.write())
        return ("\n".join(lines) + "\n").encode()

    def _read_others(self) -> Sequence[tuple[_Snapshot, bool]]:
        """Return what other processes left, and whether they still do: the counts of one that is gone stay."""
        if self._file is None:
            return []
        self.publish()
        if not self._file.exists():
            return []
        now_s = self._file.stat().st_mtime
        files = [file for file in sorted(self._file.parent.glob("*.json")) if file != self._file]
        return [
            (snapshot, now_s - file.stat().st_mtime < _SILENT_S)
            for file in files
            if (snapshot := _read(file)) is not None
        ]

    def _take_up(self) -> None:
        """Go on from the counts of who had this place before."""
        before = None if self._file is None else _read(self._file)
        for family in self.families:
            if before is not None and family.kind != "gauge" and family not in self._process:
                family.merge(dict(before.get(family.name, [])))

    def _measure_process(self) -> None:
        memory, cpu, files = self._process
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu.set((self.worker,), used.ru_utime + used.ru_stime)
        try:
            pages = int(Path("/proc/self/statm").read_bytes().split()[1])
            files.set((self.worker,), float(sum(1 for _ in Path("/proc/self/fd").iterdir())))
        except OSError:  # not Linux: what the system cannot tell is left out
            return
        memory.set((self.worker,), float(pages * _PAGE_BYTES))


def _read(file: Path) -> _Snapshot | None:
    try:
        return _decode(file.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
