"""Laws of tensors: what is written is what is read, in every form."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyball.domain.data.schemas import Field
from flyball.server.inference.oip.interface import convert
from flyball.server.inference.oip.tensors import DATATYPES, Tensor, TensorError, read_json, read_raw, write_raw

RANGES = {f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)}
RANGES |= {f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)}
ELEMENTS: dict[str, st.SearchStrategy[Any]] = {name: st.integers(*limits) for name, limits in RANGES.items()}
ELEMENTS |= {
    "BOOL": st.booleans(),
    "FP32": st.floats(width=32, allow_nan=False),
    "FP64": st.floats(allow_nan=False),
    "BYTES": st.text(max_size=20),
}


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    datatype = draw(st.sampled_from(sorted(ELEMENTS)))
    # Small and large tensors take different ways.
    rows = draw(st.integers(0, 5) | st.sampled_from([300]))
    width = draw(st.integers(1, 3))
    few = draw(st.lists(ELEMENTS[datatype], min_size=1, max_size=6))
    values = [few[at % len(few)] for at in range(rows * width)]
    return Tensor("x", datatype, (rows, width), values)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tensor=tensors())
def test_raw_bytes_are_read_as_they_were_written(tensor: Tensor) -> None:
    found = read_raw(tensor.name, tensor.datatype, tensor.shape, write_raw(tensor))
    assert found.to_list() == tensor.values
    assert (found.shape, found.datatype) == (tensor.shape, tensor.datatype)


@given(tensor=tensors())
def test_flat_and_nested_data_are_the_same(tensor: Tensor) -> None:
    rows, width = tensor.shape
    flat = list(tensor.values)
    nested = [flat[row * width : (row + 1) * width] for row in range(rows)]
    assert read_json("x", tensor.datatype, tensor.shape, flat).to_list() == flat
    if rows:
        assert read_json("x", tensor.datatype, tensor.shape, nested).to_list() == flat


@given(tensor=tensors(), data=st.data())
def test_cut_or_longer_bytes_are_refused(tensor: Tensor, data: st.DataObject) -> None:
    raw = write_raw(tensor)
    other = raw + b"\0" if not raw or data.draw(st.booleans()) else raw[:-1]
    with pytest.raises(TensorError):
        read_raw(tensor.name, tensor.datatype, tensor.shape, other)


@given(values=st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), max_size=20))
def test_half_precision_is_read(values: list[float]) -> None:
    half = np.array(values, dtype="<f2")
    assert read_raw("x", "FP16", [len(values)], half.tobytes()).to_list() == half.tolist()
    upper = (np.array(values, dtype="<f4").view("<u4") >> 16).astype("<u2")
    found = read_raw("x", "BF16", [len(values)], upper.tobytes()).to_list()
    assert np.allclose(found, values, rtol=2**-7, atol=1e-38)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_has_an_empty_tensor(datatype: str) -> None:
    assert read_raw("x", datatype, [0], b"").to_list() == []


@given(values=st.lists(st.integers(-(2**53), 2**53), max_size=5))
def test_whole_floats_are_ints_where_ints_are_wanted(values: list[int]) -> None:
    field = Field(name="n", dtype="int", nullable=False)
    assert convert([float(value) for value in values], "FP64", field) == values


@pytest.mark.parametrize("value", [0.5, float("inf"), float("-inf"), float("nan"), 1e300, 2.0**53 + 2])
def test_other_floats_are_no_ints(value: float) -> None:
    with pytest.raises(TensorError):
        convert([value], "FP64", Field(name="n", dtype="int", nullable=False))


def test_nan_stands_for_what_is_missing() -> None:
    for dtype in ("int", "float"):
        field = Field(name="n", dtype=dtype, nullable=True)  # type: ignore[arg-type]
        assert convert(np.array([1.0, np.nan]), "FP64", field) == [1, None]
