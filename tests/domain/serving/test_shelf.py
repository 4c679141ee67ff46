"""The least recently used models leave the memory, and come back when they are asked."""

from typing import Any

import numpy as np
import polars as pl

from flyball.domain.registry.runtimes import array_form, each_form
from flyball.domain.serving.shelf import Shelf


class Model:
    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, frame: pl.DataFrame) -> Any:
        return np.full(frame.height, self.value)


class ArrayModel(Model):
    def predict_array(self, rows: Any) -> Any:
        return np.full(len(rows), self.value)


class Files:
    """Models of four bytes each, and how often each was read."""

    def __init__(self, budget_bytes: int, kind: type[Model] = Model) -> None:
        self.shelf = Shelf(budget_bytes)
        self.kind = kind
        self.reads: dict[str, int] = {}
        self.left = 0
        self.shelf.when_one_leaves(self._note)

    def _note(self) -> None:
        self.left += 1

    def keep(self, number: int) -> Any:
        return self.shelf.keep(f"m/{number}", 4, lambda: self._read(number))

    def _read(self, number: int) -> Model:
        ref = f"m/{number}"
        self.reads[ref] = self.reads.get(ref, 0) + 1
        return self.kind(float(number))


ROW = pl.DataFrame({"x": [1.0]})


def test_the_one_used_longest_ago_leaves_and_comes_back() -> None:
    files = Files(8)
    one, two = files.keep(1), files.keep(2)
    one.predict(ROW)
    three = files.keep(3)
    assert (one.is_away, two.is_away, three.is_away) == (False, True, False)
    assert two.predict(ROW).tolist() == [2.0]
    assert (one.is_away, two.is_away, three.is_away) == (True, False, False)
    assert files.reads == {"m/1": 1, "m/2": 2, "m/3": 1}
    assert files.left == 2
    [record] = files.shelf.take_records()
    assert (record.version, record.has_failed) == ("m/2", False)
    assert files.shelf.take_records() == []


def test_within_the_budget_all_stay() -> None:
    files = Files(8)
    models = [files.keep(1), files.keep(2)]
    for _ in range(3):
        assert [model.predict(ROW)[0] for model in models] == [1.0, 2.0]
    assert files.reads == {"m/1": 1, "m/2": 1}


def test_one_that_is_larger_than_the_budget_is_there_alone() -> None:
    files = Files(3)
    one, two = files.keep(1), files.keep(2)
    assert (one.is_away, two.is_away) == (True, False)
    assert one.predict(ROW).tolist() == [1.0]
    assert (one.is_away, two.is_away) == (False, True)


def test_a_model_keeps_its_forms() -> None:
    assert array_form(Files(8).keep(1)) is None
    assert each_form(Files(8).keep(1)) is None
    files = Files(4, ArrayModel)
    one = files.keep(1)
    files.keep(2)
    form = array_form(one)
    assert form is not None
    assert one.is_away
    assert form(np.zeros((2, 1))).tolist() == [1.0, 1.0]


def test_one_that_cannot_be_read_again_says_so_each_time() -> None:
    files = Files(4)
    one = files.keep(1)
    files.keep(2)

    def fail() -> Any:
        raise OSError("the disk is gone")

    one.load = fail
    for _ in range(2):
        try:
            one.predict(ROW)
        except OSError as error:
            assert "gone" in str(error)
        else:
            raise AssertionError
    assert [record.has_failed for record in files.shelf.take_records()] == [True, True]
