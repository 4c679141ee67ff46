"""Declarations: what is refused, in which words, and that they cost nothing to import."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest

from flyball.core.encoding import to_json
from flyball.core.errors import FlyballError
from flyball.domain.data.tables import Table
from flyball.domain.monitoring.attributions import attribution_drift
from flyball.domain.monitoring.monitors import (
    check_names,
    describe,
    drift,
    performance,
    prediction_drift,
    prediction_mean,
    quality,
    service,
)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: drift(columns="income"), "must be a list of names"),
        (lambda: drift(columns=[]), "watches no column"),
        (lambda: drift(threshold=0), "drift(threshold=0) must be greater than 0"),
        (lambda: drift(window="1x"), "drift's window '1x' is not a duration"),
        (lambda: drift(window="5m"), "drift(window='5m') must be at least 1h"),
        (lambda: drift(min_rows=0), "drift(min_rows=0) must be a whole number of at least 1"),
        (lambda: drift(min_rows=True), "must be a whole number"),
        (lambda: attribution_drift(columns="income"), "must be a list of names"),
        (lambda: attribution_drift([]), "watches no column"),
        (lambda: attribution_drift(window="5m"), "must be at least 1h"),
        (lambda: prediction_drift(threshold="high"), "must be a number"),
        (lambda: performance("acu", at_least=0.5), "did you mean 'auc'"),
        (lambda: performance("auc"), "performance('auc') needs at_least="),
        (lambda: performance("auc", at_most=0.5), "it is better when higher"),
        (lambda: performance("rmse", at_least=0.5), "it is better when lower"),
        (lambda: performance("bias", at_least=0.5), "it is better when near zero"),
        (lambda: performance("rmse", at_least=0.5, at_most=0.7), "needs at_most="),
        (lambda: performance("auc", at_least=float("nan")), "must be a number"),
        (lambda: performance("auc", at_least=0.5, labels="outcomes.defaulted"), "must be a column of a table"),
        (lambda: prediction_mean(last=1), "must be between 2 and 1000"),
        (lambda: prediction_mean(last=1001), "must be between 2 and 1000"),
        (lambda: prediction_mean(off_by=-0.2), "must be greater than 0"),
        (lambda: quality(), "quality() watches nothing"),
        (lambda: quality(nulls=5), "quality(nulls=5) must be a share between 0 and 1"),
        (lambda: service(), "service() watches nothing"),
        (lambda: service(errors=1.5), "must be a share"),
        (lambda: service(p99="fast"), "service's p99 'fast' is not a duration"),
        (lambda: service(p99=50), "must be a duration"),
        (lambda: service(errors=0.1, window="1s"), "must be at least 1m"),
        (lambda: drift(cool_down=timedelta(0)), "longer than nothing"),
    ],
)
def test_what_cannot_be_watched_is_refused_by_name(declare: Callable[[], object], words: str) -> None:
    with pytest.raises(FlyballError) as error:
        declare()
    assert words in str(error.value)


def test_names_do_not_change_with_limits() -> None:
    assert drift(threshold=0.1).name == drift(threshold=0.3, window="7d").name == "drift"
    assert drift(["income", "age"]).name == "drift:income+age"
    assert performance("auc", at_least=0.7).name == "performance:auc"
    assert prediction_mean(name="price-level").name == "price-level"


def test_two_monitors_of_one_name_are_refused() -> None:
    with pytest.raises(FlyballError, match="two monitors are named 'drift'"):
        check_names([drift(), drift(threshold=0.5)])
    check_names([drift(), drift(threshold=0.5, name="drift-strict")])


def test_a_declaration_can_be_written_down() -> None:
    outcomes = Table("outcomes.parquet", name="outcomes")
    monitor = performance("auc", labels=outcomes["defaulted"], at_least=0.68)
    assert describe(monitor) == {
        "kind": "performance",
        "name": "performance:auc",
        "metric": "auc",
        "labels": "outcomes.defaulted",
        "at_least": 0.68,
        "at_most": None,
        "window": "30d",
        "min_labels": 100,
        "cool_down": "1d",
    }
    for declared in (drift(["a"]), prediction_mean(), quality(nulls=0.1), service(p99="50ms")):
        assert to_json(describe(declared))


def test_windows_move_in_steps_of_a_24th() -> None:
    assert drift().step == timedelta(hours=1)
    assert drift(window="7d").step == timedelta(hours=7)
    assert performance("auc", at_least=0.7).step == timedelta(days=1)
    assert service(errors=0.1).step == timedelta(minutes=1)


def test_declaring_loads_nothing_heavy() -> None:
    code = (
        "import sys; import flyball.domain.monitoring.monitors\n"
        "heavy = {'numpy', 'polars', 'sklearn', 'tenacity', 'sqlite3'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
