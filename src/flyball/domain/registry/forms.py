"""In which form a version computes: its library's own, or ONNX where that gives the same predictions."""

import shutil
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flyball.core.clock import monotonic_s
from flyball.core.errors import PluginError, UnknownNameError
from flyball.domain.registry.packages import OnnxState
from flyball.domain.registry.reference import sample_rows
from flyball.domain.registry.runtimes import ONNX, Converter, Predictor, Runtimes, array_form
from flyball.domain.registry.signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import polars as pl

PROOF_ROWS = 10_000
"""So many of the training rows must agree."""
# Two computations of one model in other number types agree to about this share of the value.
_PARITY = 1e-5
_REASON_LENGTH = 120
_ROUNDS = 15
_HUNDRED = 100
# Unpickling is worth avoiding: the library's own form must be this much faster at both sizes to be preferred.
_MUCH_FASTER = 2.0


def prove_onnx(
    folder: Path,
    model: Any,
    signature: Signature,
    training: "pl.DataFrame",
    native: Predictor,
    runtime: str,
    runtimes: Runtimes,
) -> OnnxState:
    """Convert a model, compare it on every row of a large sample, and measure which form is faster.

    Args:
        folder: Where the ONNX is written; it stays only where all rows agree.
        model: The model.
        signature: What it takes and gives.
        training: Training rows with its features.
        native: The model in its library's own form.
        runtime: The name of its runtime.
        runtimes: Find the converter.
    """
    if runtime == ONNX:
        return OnnxState(is_proven=False, reason="the model is ONNX itself")
    if runtime != "sklearn":
        return OnnxState(is_proven=False, reason=f"models of the runtime {runtime} are not converted")
    try:
        onnx = runtimes.get(ONNX)
    except (PluginError, UnknownNameError) as error:
        return OnnxState(is_proven=False, reason=_one_line(error.message))
    rows = sample_rows(training.select(signature.features.names), PROOF_ROWS)
    expected = native.predict(rows)
    reasons: dict[str, str] = {}
    converter = cast(Converter, onnx)
    for precision in converter.precisions:
        folder.mkdir(exist_ok=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                converter.convert(model, folder, signature, rows, precision)
                converted = onnx.predictor(folder, signature)
                found = converted.predict(rows)
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise
            reasons[f"{type(error).__name__}: {error}"] = precision
            continue
        if _agree(expected, found):
            return _compare(precision, len(rows), expected, found, native, converted, rows)
        reasons[f"predictions differ from the model's by up to {abs(expected - found).max():.2g}"] = precision
    shutil.rmtree(folder, ignore_errors=True)
    return OnnxState(is_proven=False, reason=_one_line(next(reversed(reasons))))


def _compare(
    precision: str,
    count: int,
    expected: "np.ndarray[Any, Any]",
    found: "np.ndarray[Any, Any]",
    native: Predictor,
    converted: Predictor,
    rows: "pl.DataFrame",
) -> OnnxState:
    """Return that ONNX is proven, and whether it is served: unless the other form is much faster."""
    reason = f"{precision}: every one of {count:,} training rows agrees"
    if not count:
        return OnnxState(is_proven=True, reason=reason, max_difference=0.0)
    mine, other = _measure_s(converted, rows), _measure_s(native, rows)
    # The figures stay out of the package: it is named by its content, and no two measurements are the same.
    is_served = min(one / two for one, two in zip(mine, other, strict=True)) < _MUCH_FASTER
    if not is_served:
        reason += "; the library's own form is served: it is much faster"
    difference = float(abs(expected - found).max())
    return OnnxState(is_proven=True, reason=reason, max_difference=difference, is_served=is_served)


def _measure_s(predictor: Predictor, rows: "pl.DataFrame") -> list[float]:
    """Return how long warm calls for one row and for a hundred take, the way requests are computed."""
    import polars as pl

    form = array_form(predictor)
    found = []
    for count in (1, _HUNDRED):
        frame = rows.head(count)
        if form is None:
            compute: Callable[[], Any] = partial(predictor.predict, frame)
        else:
            compute = partial(form, frame.cast(pl.Float64).to_numpy(order="c"))
        found.append(_quickest_s(compute))
    return found


def _quickest_s(compute: "Callable[[], Any]") -> float:
    took_s = []
    for _ in range(_ROUNDS):
        begun_s = monotonic_s()
        compute()
        took_s.append(monotonic_s() - begun_s)
    return min(took_s)


def _agree(expected: "np.ndarray[Any, Any]", found: "np.ndarray[Any, Any]") -> bool:
    import numpy as np

    return bool(expected.shape == found.shape and np.allclose(found, expected, rtol=_PARITY, atol=_PARITY * 0.1))


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 1] + "…"
