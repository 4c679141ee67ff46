"""How long one row takes: warm, and of the calmest round."""

import time
from typing import Any

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from flyball.domain.registry.latency import measure_latency
from flyball.domain.registry.signatures import infer_signature

ROWS = pl.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [False, False, True, True]})
SIGNATURE = infer_signature(LogisticRegression().fit(ROWS.select("x"), ROWS["y"]), ROWS, ["x"], "y")


class Slow:
    """Answers in a time that depends on how often it was asked."""

    def __init__(self, times_s: list[float]) -> None:
        self.times_s = times_s
        self.asked = 0

    def predict(self, frame: pl.DataFrame) -> Any:
        assert frame.shape == (1, 1)
        time.sleep(self.times_s[min(self.asked, len(self.times_s) - 1)])
        self.asked += 1
        return np.zeros(1)


def test_the_first_rows_warm_up_and_do_not_count() -> None:
    predictor = Slow([0.2] * 4 + [0.0])
    found = measure_latency(predictor, SIGNATURE, ROWS)
    assert found is not None
    assert found.rows == 100
    assert 0 < found.p50_s <= found.p99_s < 0.1
    assert predictor.asked == 4 + 3 * 100


def test_a_disturbance_of_one_round_is_not_held_against_the_model() -> None:
    found = measure_latency(Slow([0.0] * 14 + [0.1] * 5 + [0.0]), SIGNATURE, ROWS)
    assert found is not None
    assert found.p99_s < 0.1


def test_a_model_that_is_slow_now_and_then_is_found_out() -> None:
    found = measure_latency(Slow(([0.0] * 40 + [0.01]) * 20), SIGNATURE, ROWS)
    assert found is not None
    assert found.p99_s >= 0.01
    assert found.p50_s < 0.01


def test_a_slow_model_is_not_measured_for_ever() -> None:
    start = time.perf_counter()
    found = measure_latency(Slow([0.5]), SIGNATURE, ROWS[:1])
    assert found is not None
    assert found.rows < 15
    assert found.p99_s >= 0.5
    assert time.perf_counter() - start < 15


def test_without_rows_there_is_nothing_to_measure() -> None:
    assert measure_latency(Slow([0.0]), SIGNATURE, ROWS[:0]) is None
