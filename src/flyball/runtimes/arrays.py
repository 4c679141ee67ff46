"""Frames as the arrays that models take."""

import numpy as np
import polars as pl

from flyball.runtimes.outputs import Array

A_FEW = 8
"""So few rows are converted fastest by way of Python."""


def to_array(frame: pl.DataFrame) -> Array:
    """Return numbers and flags as float64 rows, nulls as NaN; anything else as objects."""
    if all(dtype.is_numeric() or dtype == pl.Boolean for dtype in frame.dtypes):
        if len(frame) <= A_FEW:
            return np.array(frame.rows(), dtype=np.float64).reshape(len(frame), frame.width)
        if any(dtype != pl.Float64 for dtype in frame.dtypes):
            frame = frame.cast(pl.Float64)
        return frame.to_numpy(order="c")
    return np.asarray(frame.to_numpy(), dtype=object)
