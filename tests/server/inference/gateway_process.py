"""A gateway with made-up models: ``python -m tests.server.inference.gateway_process ROOT PORT [FLAG]``."""

import ctypes
import errno
import os
import resource
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flyball.core.clock import SystemClock
from flyball.domain.data.expectations import column, flatten
from flyball.domain.data.requests import RequestSchema
from flyball.domain.data.row_checks import compile_row
from flyball.domain.data.schemas import Field, Schema
from flyball.domain.registry.signatures import Signature
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.on_demand import VersionsOnDemand
from flyball.server.inference import connections
from flyball.server.inference.app import InferenceApp
from flyball.server.inference.metrics import GatewayMetrics
from flyball.server.inference.run import serve
from flyball.server.inference.telemetry import Telemetry
from flyball.server.inference.tracing import open_tracer
from flyball.server.inference.watchdog import Watchdog
from flyball.server.logs import set_up_logging
from flyball.server.memory import limit_memory
from tests.domain.serving.conftest import House, breaks, fixed

MAX_BODY_BYTES = 1_000_000


def slowly(frame: pl.DataFrame, duration_s: float = 0.2) -> Any:
    time.sleep(duration_s)
    return np.full(frame.height, 0.5)


def busily(frame: pl.DataFrame, call_s: float = 0.04, row_s: float = 0.0005) -> Any:
    """Keep the processor busy, mostly for the call itself, as scikit-learn's forests do."""
    until_s = time.thread_time() + call_s + row_s * frame.height
    while time.thread_time() < until_s:
        sum(range(1_000))
    return np.asarray(frame["income"]) / 2e6


def one_by_one(frame: pl.DataFrame) -> Any:
    """Yield a row's answer every tenth of a second; break at an income of 13, and stand still at 19."""
    for income in frame["income"]:
        if income == 13:
            raise ValueError("thirteen")
        time.sleep(5.0 if income == 19 else 0.1)
        yield income / 2e6


class SumPredictor:
    """Adds the numbers of a row; breaks at 13, takes 4 GB at 15, takes its time at 17, and never returns at 19."""

    def predict(self, frame: pl.DataFrame) -> Any:
        return self.predict_array(frame.select(pl.all().cast(pl.Float64)).to_numpy())

    def predict_array(self, inputs: Any) -> Any:
        if (inputs[:, 0] == 13).any():
            raise ValueError("thirteen")
        if (inputs[:, 0] == 15).any():
            np.ones(500_000_000)
        if (inputs[:, 0] == 17).any():
            time.sleep(0.5)
        if (inputs[:, 0] == 19).any():
            ctypes.PyDLL(None).sleep(60)  # as a library does that never returns and lets nobody else compute
        return np.nansum(inputs, axis=1)


def make_numbers(ref: str) -> LoadedVersion:
    """Return a version whose requests are numbers alone: they go the short way."""
    fields = (
        Field(name="customer_id", dtype="int", nullable=False),
        Field(name="income", dtype="float", nullable=False),
        Field(name="term", dtype="int"),
    )
    rules = flatten([column("income").between(0, 1e6)], of="applications")
    return LoadedVersion(
        ref=ref,
        predictor=SumPredictor(),
        signature=Signature(
            features=Schema((Field(name="income", dtype="float"), Field(name="term", dtype="int"))),
            task="regression",
            label="sum",
            label_dtype="float",
        ),
        request=RequestSchema(Schema(fields)),
        check_row=compile_row(rules),
        rules=tuple(rules),
        entity=("customer_id",),
    )


def make_house(root: Path, **endpoint: Any) -> House:
    house = House(root, SystemClock(), check_every_s=None, **endpoint)
    house.add(1, fixed(0.25))
    house.add(2, fixed(0.75))
    house.add(3, breaks("it is broken"))
    house.add(4, slowly)
    house.add(6, partial(slowly, duration_s=3.0))
    house.add(7, busily)
    house.add(8, one_by_one)
    house.versions["m/5"] = make_numbers("m/5")
    return house


def sync_slowly(house: House, told: Path, *, is_broken: bool) -> None:
    """Let the log wait for a slow disk, and tell when it had done what was asked."""
    sync = os.fdatasync

    def fdatasync(file: int) -> None:
        if is_broken:
            raise OSError(errno.EIO, "Input/output error")
        time.sleep(0.2)
        sync(file)
        with told.open("a", encoding="ascii") as times:
            times.write(f"{time.monotonic()}\n")

    os.fdatasync = fdatasync
    house.predictions.log._is_synced = True


def main(root: str, port: str, flag: str = "") -> None:
    house = make_house(Path(root), on_violation="quarantine" if flag == "quarantine" else "refuse")
    if flag == "full":
        # Every write to a file fails from here on, as on a full disk.
        house.fleet.refresh()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
    if flag in ("disk", "broken disk"):
        sync_slowly(house, Path(root) / "synced", is_broken=flag == "broken disk")
    if flag == "narrow":
        house.fleet.refresh()
        limit_memory(1_000)
    if flag == "impatient":
        connections._PATIENCE_S = 0.5
    versions = VersionsOnDemand(house.fleet, house, house)
    set_up_logging("json" if flag == "json" else "text")
    collector = flag.removeprefix("otlp=") if flag.startswith("otlp=") else ""
    telemetry = Telemetry(
        GatewayMetrics(Path(root) / "metrics", os.environ.get("WORKER", "0")),
        open_tracer(collector, SystemClock()),
        logs_requests=flag == "json",
    )
    grpc_address = "" if flag == "full" else f"127.0.0.1:{int(port) + 1}"
    app = InferenceApp(
        house.plane,
        house.predictions.log,
        versions,
        max_body_bytes=MAX_BODY_BYTES,
        grpc_address=grpc_address,
        telemetry=telemetry,
        most_waiting=30,
        timeout_s=1.0,
        watchdog=Watchdog(1.5 if flag == "watched" else 0.0),
    )
    serve(app, "127.0.0.1", int(port), app.short_way)


if __name__ == "__main__":
    main(*sys.argv[1:])
