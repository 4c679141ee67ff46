"""How much one column alone says about the label, measured on rows that were not used to learn it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flyball.domain.features.leaks import Leak, SplitData

Floats = NDArray[np.float64]

_MOST_BINS = 24
_MOST_CATEGORIES = 60
_WORDS = 150
_PROXY_AUC, _PROXY_R2, _PROXY_RANK = 0.985, 0.97, 0.985
_MISSING_AUC, _MISSING_R2 = 0.9, 0.7
_WORD_AUC, _WORD_R2 = 0.93, 0.8
_ID_AUC, _ID_R2 = 0.62, 0.08
_NAMED_ID = re.compile(
    r"(?:^|[_ .-])(?:id|uuid|guid|key|no|nr|num|number|index|idx|row|serial)$|(?:Id|ID|No|Key|Index)$"
)


class Target(NamedTuple):
    """The label as numbers: of two values 0 and 1, of several classes whether it is the commonest one."""

    values: Floats
    is_binary: bool


def find_telling_features(data: SplitData) -> list[Leak]:
    """Return features that tell too much: copies and proxies of the label, identifiers, gaps and words."""
    rows = data.all_rows
    target = read_target(rows.get_column(data.label))
    if np.ptp(target.values) == 0:
        return []
    found: list[Leak] = []
    for name in data.features:
        if name != data.label:
            found.extend(_judge(rows.get_column(name), name, data.label, target))
    if data.time is None and len(target.values) > 100 and autocorrelation(target.values) > 0.9:
        found.append(
            Leak(
                kind="row-order",
                columns=(),
                message="rows lie sorted by their label: any number that counts rows, or a neighbour, tells it",
                hint="Split at random (test='random 20%'), and keep no column that numbers rows.",
            )
        )
    return found


def _judge(values: pl.Series, name: str, label: str, target: Target) -> Iterator[Leak]:
    strength = single_power(values, target)
    rank = 0.0 if target.is_binary else rank_correlation(values, target.values)
    is_id = _is_identifier(values, name)
    unit = "AUC" if target.is_binary else "R²"
    if strength >= (_PROXY_AUC if target.is_binary else _PROXY_R2) or rank >= _PROXY_RANK:
        told = f"{unit} {strength:.3f}" if rank < _PROXY_RANK else f"rank correlation {rank:.3f}"
        yield Leak(
            kind="identifier" if is_id else "proxy",
            columns=(name,),
            message=f"{name} alone tells {label} nearly without fault ({told})",
            hint=f"If {name} is only known once {label} is, leave it out: drop=[{name!r}].",
        )
        return
    if is_id and strength >= (_ID_AUC if target.is_binary else _ID_R2):
        yield Leak(
            kind="identifier",
            columns=(name,),
            message=f"{name} looks like an identifier, and still tells something about {label} ({unit} {strength:.2f})",
            hint=f"Leave it out: drop=[{name!r}], or make it a key.",
        )
        return
    if 0 < values.null_count() < len(values):
        gaps = single_power(values.is_null().cast(pl.Int8), target)
        if gaps >= (_MISSING_AUC if target.is_binary else _MISSING_R2):
            yield Leak(
                kind="missing-tells",
                columns=(name,),
                message=f"whether {name} is missing tells {label} ({unit} {gaps:.2f}): it is probably filled "
                "in afterwards",
                hint=f"Leave {name} out, or read it as of the row's time from a table with known=.",
            )
            return
    yield from _judge_words(values, name, label, target)


def _judge_words(values: pl.Series, name: str, label: str, target: Target) -> Iterator[Leak]:
    if values.dtype != pl.String or values.n_unique() <= _MOST_CATEGORIES:
        return
    words = values.str.to_lowercase().str.extract_all(r"\w+").list.unique()
    commonest = words.explode(empty_as_null=False).drop_nulls().alias("word").value_counts(sort=True).head(_WORDS)
    for word in commonest.to_series(0):
        has = words.list.contains(word).fill_null(False).cast(pl.Int8)
        strength = single_power(has, target)
        if strength >= (_WORD_AUC if target.is_binary else _WORD_R2):
            yield Leak(
                kind="text-tells",
                columns=(name,),
                message=f"whether {name} has the word {word!r} tells {label} ({strength:.2f})",
                hint=f"See who writes {name}, and when: probably after the outcome.",
            )
            return


def read_target(label: pl.Series) -> Target:
    """Return a label as numbers."""
    distinct = label.n_unique()
    if distinct == 2:
        return Target((label == label.max()).cast(pl.Float64).to_numpy(), True)
    if label.dtype.is_numeric() and distinct > 10:
        return Target(label.cast(pl.Float64).to_numpy(), False)
    if label.dtype.is_numeric() and label.dtype.is_float():
        return Target(label.cast(pl.Float64).to_numpy(), False)
    commonest = label.alias("value").value_counts(sort=True).to_series(0)[0]
    return Target((label == commonest).cast(pl.Float64).to_numpy(), True)


def single_power(values: pl.Series, target: Target) -> float:
    """Return how well a column alone tells the label: the AUC of two classes, else R²; each half tells the other one.

    Columns are cut into cells, and each cell says the mean label of its rows in the other half.
    """
    cells = _cells(values)
    if cells is None:
        return 0.0
    half = np.random.Generator(np.random.PCG64(0)).random(len(cells)) < 0.5
    scores = [_tell(cells, target, learn) for learn in (half, ~half)]
    return float(np.mean(scores))


def _tell(cells: NDArray[np.int64], target: Target, learn: NDArray[np.bool_]) -> float:
    y, count = target.values, int(cells.max()) + 1
    mean = y[learn].mean()
    sums = np.bincount(cells[learn], weights=y[learn], minlength=count)
    rows = np.bincount(cells[learn], minlength=count)
    told = ((sums + mean) / (rows + 1))[cells[~learn]]
    return _auc(told, y[~learn]) if target.is_binary else _r2(told, y[~learn])


def _cells(values: pl.Series) -> NDArray[np.int64] | None:
    if values.dtype.is_numeric() or values.dtype.is_temporal():
        numbers = values.to_physical().cast(pl.Float64, strict=False).to_numpy()
        given = numbers[np.isfinite(numbers)]
        if len(given) < 2:
            return None
        # Of few values each has a cell: those of a discrete number are not mixed with their neighbours.
        distinct = np.unique(given)
        edges = (
            distinct
            if len(distinct) <= _MOST_BINS
            else np.unique(np.quantile(given, np.arange(1, _MOST_BINS) / _MOST_BINS))
        )
        found = np.searchsorted(edges, numbers, side="left")
        found[~np.isfinite(numbers)] = len(edges) + 1
        return found.astype(np.int64)
    texts = values.cast(pl.String, strict=False)
    known = texts.drop_nulls().alias("value").value_counts(sort=True).head(_MOST_CATEGORIES).to_series(0)
    if not len(known):
        return None
    place = {text: number for number, text in enumerate(known)}
    codes = texts.replace_strict(place, default=len(known), return_dtype=pl.Int64)
    return codes.fill_null(len(known) + 1).to_numpy()


def _auc(told: Floats, y: Floats) -> float:
    positive = y > 0.5
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return 0.5
    ranks = _ranks(told)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _r2(told: Floats, y: Floats) -> float:
    spread = ((y - y.mean()) ** 2).sum()
    return float(1 - ((y - told) ** 2).sum() / spread) if spread else 0.0


def _ranks(values: Floats) -> Floats:
    return pl.Series(values).rank("average").to_numpy()


def rank_correlation(values: pl.Series, y: Floats) -> float:
    """Return Spearman's coefficient without its sign; 0 for anything but numbers."""
    if not values.dtype.is_numeric():
        return 0.0
    numbers = values.cast(pl.Float64).to_numpy()
    given = np.isfinite(numbers)
    if given.sum() < 50 or np.ptp(numbers[given]) == 0 or np.ptp(y[given]) == 0:
        return 0.0
    return float(abs(np.corrcoef(_ranks(numbers[given]), _ranks(y[given]))[0, 1]))


def autocorrelation(y: Floats) -> float:
    """Return how alike neighbours are: the correlation of each value with the next one."""
    if len(y) < 3 or np.ptp(y[1:]) == 0 or np.ptp(y[:-1]) == 0:
        return 0.0
    return float(np.corrcoef(y[:-1], y[1:])[0, 1])


def _is_identifier(values: pl.Series, name: str) -> bool:
    if values.dtype.is_float() or not len(values):
        return False
    distinct = values.n_unique()
    if values.dtype.is_integer():
        low, high = values.min(), values.max()
        counts_rows = distinct >= 0.98 * len(values) and int(high) - int(low) < 3 * len(values)  # type: ignore[arg-type]
        return bool(counts_rows or (_NAMED_ID.search(name) and distinct > 0.05 * len(values) and distinct > 20))
    if values.dtype != pl.String:
        return False
    return bool(distinct >= 0.98 * len(values) and _NAMED_ID.search(name)) or bool(
        _NAMED_ID.search(name) and distinct > 0.05 * len(values) and distinct > 20
    )
