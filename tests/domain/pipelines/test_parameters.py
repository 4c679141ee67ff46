"""Text from the command line becomes the value that the annotation says."""

from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from flyball.domain.pipelines.parameters import ParameterError, read_value


class Colour(Enum):
    RED = "r"
    BLUE = "b"


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int, 3),
        ("-3", float, -3.0),
        ("1e-3", float, 0.001),
        ("true", bool, True),
        ("No", bool, False),
        ("3", str, "3"),
        ("", str, ""),
        ("none", int | None, None),
        ("3", int | None, 3),
        ("none", str | None, None),
        ("3", str | int, 3),
        ("x", str | int, "x"),
        ("0.5", int | float, 0.5),
        ("a/b.csv", Path, Path("a/b.csv")),
        ("a", Literal["a", "b"], "a"),
        ("2", Literal[1, 2], 2),
        ("RED", Colour, Colour.RED),
        ("b", Colour, Colour.BLUE),
        ("[1, 2]", list[int], [1, 2]),
        ("[1, 2]", tuple[int, int], (1, 2)),
        ('{"a": 1}', dict[str, float], {"a": 1}),
        ("2026-03-01", date, date(2026, 3, 1)),
        ("2026-03-01T00:00:00+00:00", datetime, datetime(2026, 3, 1, tzinfo=UTC)),
        ("90d", timedelta, timedelta(days=90)),
        ("5", Annotated[int, "rows"], 5),
        ("5", Any, 5),
        ("five", Any, "five"),
    ],
)
def test_text_is_read(text: str, annotation: Any, value: Any) -> None:
    read = read_value("step.name", text, annotation)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("1.5", int),
        ("maybe", bool),
        ("c", Literal["a", "b"]),
        ("GREEN", Colour),
        ("[1, 'a']", list[int]),
        ('["a"]', list[int]),
        ("[1]", tuple[int, int]),
        ("soon", timedelta),
        ("x", int | None),
        ("today", date),
    ],
)
def test_what_does_not_fit_is_refused_by_name(text: str, annotation: Any) -> None:
    with pytest.raises(ParameterError, match=r"parameter step\.name expects"):
        read_value("step.name", text, annotation)
