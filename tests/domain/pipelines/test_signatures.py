"""What fits an annotation, and what cannot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict, TypeVar, Union

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyball.domain.pipelines.signatures import describe, fits, signature_of, tuple_length, value_fits

T = TypeVar("T")
UserId = NewType("UserId", int)


class Closing(Protocol):
    def close(self) -> None: ...


class Row(TypedDict):
    name: str


FITTING = [
    (int, int),
    (bool, int),
    (int, float),
    (int, complex),
    (Any, int),
    (int, Any),
    (int, object),
    (int, int | None),
    (None, int | None),
    (type(None), Optional[int]),  # noqa: UP045
    (int, Union[str, int]),  # noqa: UP007
    (int | str, str | int | None),
    (list[int], list),
    (list, list[int]),
    (list[int], Sequence[int]),
    (list[int], list[float]),
    (dict[str, float], Mapping[str, float]),
    (tuple[int, str], tuple[int, str]),
    (tuple[int, ...], Sequence[int]),
    (tuple[int, str], tuple),
    (T, int),
    (list[T], list[int]),
    (UserId, int),
    (Annotated[int, "a note"], int),
    (Literal["a"], str),
    (Literal["a"], Literal["a", "b"]),
    (str, Literal["a", "b"]),
    (npt.NDArray[np.float64], np.ndarray),
    (npt.NDArray[np.float64], npt.NDArray[np.floating]),
    (pl.DataFrame, pl.DataFrame),
    (pl.DataFrame, pl.DataFrame | pl.LazyFrame),
    (int, Closing),
    (Row, dict[str, str]),
    ("Unresolved", int),
]
MISFITS = [
    (str, int),
    (float, int),
    (int, str),
    (int | None, int),
    (None, int),
    (int | str, int),
    (list[str], list[int]),
    (dict[str, str], dict[str, float]),
    (list[int], dict[str, int]),
    (tuple[int, str], tuple[int, int]),
    (tuple[int], tuple[int, int]),
    (Literal["c"], Literal["a", "b"]),
    (Literal["c"], int),
    (pl.LazyFrame, pl.DataFrame),
    (pl.DataFrame, np.ndarray),
    (str, Path),
]


@pytest.mark.parametrize(("given_", "expected"), FITTING, ids=str)
def test_what_can_be_right_fits(given_: Any, expected: Any) -> None:
    assert fits(given_, expected)


@pytest.mark.parametrize(("given_", "expected"), MISFITS, ids=str)
def test_what_cannot_be_right_does_not_fit(given_: Any, expected: Any) -> None:
    assert not fits(given_, expected)


@pytest.mark.parametrize("annotation", [pair[0] for pair in FITTING + MISFITS], ids=str)
def test_every_annotation_fits_itself(annotation: Any) -> None:
    assert fits(annotation, annotation)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)


@given(_values, st.sampled_from([int, float, str, bool, list, dict, type(None)]))
def test_a_value_fits_a_plain_class_where_its_class_does(value: Any, expected: type) -> None:
    assert value_fits(value, expected) == fits(type(value), expected)


def test_values_are_looked_into() -> None:
    assert value_fits([1, 2.0], list[float])
    assert not value_fits([1, "2"], list[float])
    assert value_fits({"a": 1}, dict[str, float])
    assert not value_fits({"a": "1"}, dict[str, float])
    assert value_fits((1, "a"), tuple[int, str])
    assert not value_fits((1,), tuple[int, str])
    assert value_fits(None, int | None)
    assert not value_fits("c", Literal["a", "b"])
    assert not value_fits(True, Literal[1])


def test_annotations_that_cannot_be_resolved_are_anything() -> None:
    def function(a: "Missing", b: int, c) -> "list[Missing]": ...  # type: ignore # noqa: F821

    _, parameters, result = signature_of(function)
    assert parameters == {"a": Any, "b": int, "c": Any}
    assert result is Any


def test_only_a_tuple_of_known_length_is_unpacked() -> None:
    assert tuple_length(tuple[int, str]) == 2
    assert tuple_length(tuple[int, ...]) == 1
    assert tuple_length(tuple) == 1
    assert tuple_length(int) == 1


def test_annotations_are_written_as_people_write_them() -> None:
    assert describe(dict[str, float]) == "dict[str, float]"
    assert describe(int | None) == "int | None"
    assert describe(None) == "None"
    assert describe(tuple[int, ...]) == "tuple[int, ...]"
    assert describe(Literal["a"]) == "Literal['a']"
