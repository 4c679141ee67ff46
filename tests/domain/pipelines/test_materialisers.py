"""What a step returns is what the next one gets."""

import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from flyball.domain.pipelines.fingerprints import FileDigests
from flyball.domain.pipelines.materialisers import UnstorableValueError, ValueStore, remove_unfinished
from flyball.storage.blobs import LocalBlobStore


@pytest.fixture
def values(tmp_path: Path) -> ValueStore:
    return ValueStore(LocalBlobStore(tmp_path / "blobs"), tmp_path, lambda path: FileDigests().digest(path))


def there_and_back(values: ValueStore, value: Any) -> tuple[Any, str, bool]:
    stored, content = values.put("step", value)
    assert stored.is_inline == (content is not None)
    return values.get(stored, content), stored.format, stored.is_inline


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


@settings(deadline=None)
@given(_json)
def test_plain_values_come_back_the_same(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    values = ValueStore(LocalBlobStore(folder / "b"), folder, lambda path: FileDigests().digest(path))
    back, _, _ = there_and_back(values, value)
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    ("value", "kind", "is_inline"),
    [
        ({"auc": 0.7, "rows": [1, 2]}, "json", True),
        ("x" * 20_000, "json", False),
        (float("nan"), "pickle", True),
        ((1, 2), "pickle", True),
        ({1: "a"}, "pickle", True),
        (np.float64(0.5), "pickle", True),
        (datetime(2026, 1, 1, tzinfo=UTC), "pickle", True),
        (b"x" * 20_000, "pickle", False),
        (2**80, "json", True),
    ],
)
def test_the_format_follows_from_the_value(values: ValueStore, value: Any, kind: str, is_inline: bool) -> None:
    back, found, inline = there_and_back(values, value)
    assert (found, inline) == (kind, is_inline)
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_frames_are_arrow(values: ValueStore) -> None:
    frame = pl.DataFrame({"a": [1, None], "t": [datetime(2026, 1, 1, tzinfo=UTC)] * 2, "c": ["x", "y"]}).cast(
        {"c": pl.Categorical}
    )
    back, kind, _ = there_and_back(values, frame)
    assert kind == "arrow"
    assert_frame_equal(back, frame, categorical_as_str=True)
    lazy, kind, _ = there_and_back(values, frame.lazy())
    assert kind == "lazy"
    assert isinstance(lazy, pl.LazyFrame)
    assert_frame_equal(lazy.collect(), frame, categorical_as_str=True)


def test_equal_frames_are_kept_once_however_they_are_chunked(values: ValueStore) -> None:
    whole = pl.DataFrame({"a": [1, 2, 3, 4]})
    pieces = pl.concat([whole[:2], whole[2:]], rechunk=False)
    assert values.put("step", whole)[0].digest == values.put("step", pieces)[0].digest


def test_frames_of_python_objects_are_refused(values: ValueStore) -> None:
    frame = pl.DataFrame({"a": [object()]}, schema={"a": pl.Object})
    with pytest.raises(UnstorableValueError, match="step 'step' returns a DataFrame"):
        values.put("step", frame)


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3), np.array(3.5), np.zeros((0, 4)), np.array(["a", "b"]), np.ones(9)[::2]]
)
def test_arrays_come_back_and_can_be_changed(values: ValueStore, array: Any) -> None:
    stored, content = values.put("step", array)
    assert (stored.format, content) == ("npy", None)
    back = values.get(stored)
    np.testing.assert_array_equal(back, array)
    if array.size and array.dtype.kind == "i":
        back += 1
        np.testing.assert_array_equal(values.get(stored), array)


def test_arrays_of_objects_are_pickled(values: ValueStore) -> None:
    back, kind, _ = there_and_back(values, np.array([{"a": 1}], dtype=object))
    assert kind == "pickle"
    assert back[0] == {"a": 1}


def test_what_cannot_be_kept_is_refused_and_leaves_nothing(values: ValueStore, tmp_path: Path) -> None:
    for value in (threading.Lock(), (number for number in range(3)), sys._getframe()):
        with pytest.raises(UnstorableValueError, match=r"step 'step' returns a .*, which cannot be kept"):
            values.put("step", value)
    assert list((tmp_path / "blobs" / "unfinished").iterdir()) == []


def test_a_value_that_names_files_carries_their_content(values: ValueStore, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.csv").write_text("2")
    before, _ = values.put("step", [tmp_path / "a.csv", folder])
    assert [path for path, _ in before.files] == [str(tmp_path / "a.csv"), str(folder)]
    (folder / "b.csv").write_text("3")
    after, _ = values.put("step", [tmp_path / "a.csv", folder])
    assert before.content != after.content
    assert values.put("step", "a.csv")[0].files
    assert not values.put("step", "b.csv")[0].files


def test_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    blobs = LocalBlobStore(tmp_path)
    mine = blobs.unfinished()
    mine.write_text("")
    dead = mine.with_name("999999999-abc")
    dead.write_text("")
    (mine.parent / "999999998-folder").mkdir()
    remove_unfinished(blobs)
    assert list(mine.parent.iterdir()) == [mine]
