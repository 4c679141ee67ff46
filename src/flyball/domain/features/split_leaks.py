"""What both parts of a split share that they should not: rows, groups, times, and statistics of all rows."""

import re
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flyball.domain.features.leaks import Leak, SplitData
from flyball.domain.features.single_features import autocorrelation, read_target

Floats = NDArray[np.float64]
_MOST_ROWS = 200_000
_SHARED, _EXPECTED = 0.01, 0.001
_LEAST_DISTINCT = 30
_EXACT, _ALL = 1e-6, 0.95
_MOST_PAIRED = 40
_PLANNED = re.compile(
    r"due|until|expir|valid|plan|sched|dead|end|next|deliver|promis|matur|appoint|renew", re.IGNORECASE
)


def find_split_leaks(data: SplitData) -> list[Leak]:
    """Return leaks of a split: see the functions below, each one kind."""
    found = list(_fitted_before(data))
    if data.fit.height + data.held_out.height > _MOST_ROWS:  # single rows do not matter any more, and cost too much
        every = -(-(data.fit.height + data.held_out.height) // _MOST_ROWS)
        data = data._replace(fit=data.fit.gather_every(every), held_out=data.held_out.gather_every(every))
    checks = (_shared_rows, _shared_groups, _later_rows, _newer_instants, _encoded_targets, _next_values)
    return [*found, *(leak for check in checks for leak in check(data))]


def _shared_rows(data: SplitData) -> Iterator[Leak]:
    """Rows of the same features and label in both parts, more than chance would repeat."""
    features = [name for name in data.features if name in data.fit.columns]
    if not features or max(data.fit.get_column(name).n_unique() for name in features) < _LEAST_DISTINCT:
        return
    columns = [*features, data.label]
    repeated = data.held_out.join(data.fit.select(columns).unique(), on=columns, how="semi", nulls_equal=True).height
    share = repeated / data.held_out.height
    # Were the columns independent, two rows would agree with the product of each column's chances.
    chance = 1.0
    for name in columns:
        counts = data.fit.get_column(name).alias("value").value_counts()["count"].to_numpy() / data.fit.height
        chance *= float((counts**2).sum())
    if repeated < 3 or share < _SHARED or chance * data.fit.height > _EXPECTED:
        return
    yield Leak(
        kind="duplicates",
        columns=(),
        message=f"{share:.0%} of the rows held out ({repeated:,}) are also among those to fit, with equal features "
        "and label",
        hint="Remove duplicates in the table's prepare=, or count them once by a key.",
    )


def _shared_groups(data: SplitData) -> Iterator[Leak]:
    """Rows of one entity on both sides of a random split, whose labels are alike."""
    keys = [key for key in data.keys if key in data.fit.columns]
    if data.is_by_time or not keys:
        return
    for key in keys:
        groups = data.fit.get_column(key).n_unique()
        if groups > 0.9 * data.fit.height or groups < 5:
            continue
        shared = data.held_out.join(data.fit.select(key).unique(), on=key, how="semi").height / data.held_out.height
        alike = _likeness(data, key)
        if shared >= 0.05 and alike >= 0.1:
            yield Leak(
                kind="groups",
                columns=(key,),
                message=f"{shared:.0%} of the rows held out are of a {key} that is also learned from, and rows of one "
                f"{key} have like labels ({alike:.2f})",
                hint=f"Hold out the last rows (test='last 20%'), or whole groups of {key}.",
            )
            return


def _likeness(data: SplitData, key: str) -> float:
    """Return the share of the label's variance that lies between groups, without what chance puts there."""
    rows = data.all_rows
    y = pl.Series("y", read_target(rows.get_column(data.label)).values)
    grouped = pl.DataFrame({"group": rows.get_column(key), "y": y}).group_by("group").agg(pl.len(), pl.col("y").mean())
    total = float(y.var() or 0.0)  # type: ignore[arg-type]
    if not total:
        return 0.0
    sizes = grouped["len"].to_numpy()
    between = float((sizes * (grouped["y"].to_numpy() - float(y.mean() or 0.0)) ** 2).sum()) / len(y)  # type: ignore[arg-type]
    return between / total - (len(sizes) - 1) / len(y)


def _later_rows(data: SplitData) -> Iterator[Leak]:
    """Rows to learn from that are later than rows held out, where labels follow the time."""
    if data.time is None:
        return
    first = data.held_out.get_column(data.time).min()
    later = data.fit.filter(pl.col(data.time) > first).height / data.fit.height
    target = read_target(data.all_rows.get_column(data.label))
    if later > 0.05 and len(target.values) > 100 and autocorrelation(target.values) > 0.25:
        yield Leak(
            kind="future-rows",
            columns=(),
            message=f"{later:.0%} of the rows to fit are later than rows held out, and labels close in time are alike: "
            "the test is easier than the future",
            hint="Hold out the last rows: fb.split(data, test='last 20%').",
        )


def _newer_instants(data: SplitData) -> Iterator[Leak]:
    """Instants among the features that lie after the row's own time."""
    if data.time is None:
        return
    rows = data.all_rows
    for name in data.features:
        dtype = rows.schema[name]
        if name == data.time or not isinstance(dtype, pl.Datetime | pl.Date) or _PLANNED.search(name):
            continue
        at = rows.get_column(name).cast(pl.Datetime("us"))
        newer = int((at > rows.get_column(data.time).dt.replace_time_zone(None)).sum()) / rows.height
        if newer > 0.01:
            yield Leak(
                kind="newer-than-asked",
                columns=(name,),
                message=f"{name} lies after {data.time} in {newer:.0%} of the rows: it was not known "
                "when they were asked about",
                hint=f"Leave it out: drop=[{name!r}], or take it from a table with time= or known=.",
            )


def _fitted_before(data: SplitData) -> Iterator[Leak]:
    """Features that are scaled or filled with statistics of all rows, those held out among them."""
    rows = data.all_rows
    for name in data.features:
        if not rows.schema[name].is_float():
            continue
        whole, fit = (_numbers(frame.get_column(name)) for frame in (rows, data.fit))
        if len(whole) < 50 or np.unique(whole).size < 10:
            continue
        how = _scaled(whole, fit) or _filled(whole, fit)
        if how:
            yield Leak(
                kind="fitted-before-split",
                columns=(name,),
                message=f"{name} {how}: what did that had seen the rows held out",
                hint="Split first, and fit transformers on the rows to fit: put them into the model, as in a Pipeline.",
            )


def _numbers(values: pl.Series) -> Floats:
    numbers = values.cast(pl.Float64).drop_nulls().to_numpy()
    finite: Floats = numbers[np.isfinite(numbers)]
    return finite


def _scaled(whole: Floats, fit: Floats) -> str:
    def is_standard(values: Floats) -> bool:
        stds = (values.std(), values.std(ddof=1))
        return bool(abs(values.mean()) < _EXACT and min(abs(std - 1) for std in stds) < _EXACT)

    def is_unit(values: Floats) -> bool:
        return bool(values.min() == 0 and abs(values.max() - 1) < 1e-12)

    if is_standard(whole) and not is_standard(fit):
        return "is standardised by the mean and deviation of all rows"
    median = np.median(whole)
    spread = np.quantile(whole, 0.75) - np.quantile(whole, 0.25)
    fit_median = np.median(fit)
    if abs(median) < _EXACT and abs(spread - 1) < _EXACT and abs(fit_median) >= _EXACT:
        return "is scaled by the median and quartiles of all rows"
    # Zero and one also are the limits of shares; that few rows are exactly there tells a scaler.
    ends = int((whole == 0).sum() + (whole == whole.max()).sum())
    if is_unit(whole) and not is_unit(fit) and ends <= 4:
        return "is scaled by the least and greatest value of all rows"
    return ""


def _filled(whole: Floats, fit: Floats) -> str:
    values, counts = np.unique(whole, return_counts=True)
    commonest = values[counts.argmax()]
    if counts.max() < max(5, 0.01 * len(whole)) or float(commonest).is_integer():
        return ""
    others, fit_others = whole[whole != commonest], fit[fit != commonest]
    if len(others) < 20 or len(fit_others) < 20:
        return ""
    size = abs(others.std()) or 1.0
    if abs(others.mean() - commonest) < _EXACT * size and abs(fit_others.mean() - commonest) >= _EXACT * size:
        return "has gaps filled with the mean of all rows"
    median, fit_median = np.median(others), np.median(fit_others)
    if (
        np.unique(others).size > 0.5 * len(others)
        and abs(median - commonest) < _EXACT * size
        and abs(fit_median - commonest) >= _EXACT * size
    ):
        return "has gaps filled with the median of all rows"
    return ""


def _encoded_targets(data: SplitData) -> Iterator[Leak]:
    """Features that are means of the label, taken over groups of all rows or up to the row itself."""
    rows = data.all_rows
    y = pl.Series("y", read_target(rows.get_column(data.label)).values)
    floats = [name for name in data.features if rows.schema[name].is_float() and rows.get_column(name).n_unique() > 2]
    groups = [
        name
        for name in dict.fromkeys([*data.keys, *data.features])
        if name in rows.columns
        and not rows.schema[name].is_float()
        and 2 < rows.get_column(name).n_unique() < 0.5 * rows.height
    ]
    for name in floats:
        frame = pl.DataFrame({"f": rows.get_column(name).cast(pl.Float64), "y": y})
        for group in groups:
            grouped = frame.with_columns(rows.get_column(group).alias("g"))
            means = grouped.select(
                whole=(pl.col("y").mean().over("g") - pl.col("f")).abs() < _EXACT,
                running=((pl.col("y").cum_sum() / pl.int_range(1, pl.len() + 1)).over("g") - pl.col("f")).abs()
                < _EXACT,
            )
            share = max(float(means[kind].mean() or 0.0) for kind in ("whole", "running"))  # type: ignore[arg-type]
            if share >= _ALL:
                yield Leak(
                    kind="target-encoding",
                    columns=(name,),
                    message=f"{name} is the mean {data.label} of each {group}, the row's own label and those held out "
                    "included",
                    hint=f"Compute it from rows whose {data.label} was known before, in a view over the labels.",
                )
                break


def _next_values(data: SplitData) -> Iterator[Leak]:
    """Features that hold what the next row of the entity, or of the table, will bring."""
    if data.time is None:
        return
    rows = data.all_rows
    key = next((k for k in data.keys if k in rows.columns and rows.get_column(k).n_unique() < 0.5 * rows.height), None)
    numeric = [name for name in dict.fromkeys([*data.features, data.label]) if rows.schema[name].is_numeric()]
    numeric = [name for name in numeric if rows.get_column(name).n_unique() > 20][:_MOST_PAIRED]
    moved = [
        (pl.col(name).shift(step).over(key) if key else pl.col(name).shift(step)).alias(f"{number} {step}")
        for number, name in enumerate(numeric)
        for step in (-1, 1)
    ]
    shifted = rows.select(*numeric, *moved)
    pairs = [
        (name, number) for name in numeric for number, other in enumerate(numeric) if name not in (other, data.label)
    ]
    if not pairs:
        return
    counts = shifted.select(
        *(
            (pl.col(f"{number} {step}") == pl.col(name)).sum().alias(f"{name} {number} {step}")
            for name, number in pairs
            for step in (-1, 1)
        )
    ).row(0, named=True)
    for name, number in pairs:
        known = shifted.height - shifted.get_column(f"{number} -1").null_count()
        equal, past = counts[f"{name} {number} -1"], counts[f"{name} {number} 1"]
        if known > 50 and equal >= _ALL * known and past < 0.5 * known:
            whose = f"the next row of the same {key}" if key else "the next row"
            yield Leak(
                kind="future-value",
                columns=(name,),
                message=f"{name} is the {numeric[number]} of {whose}: it is not known yet when the row is asked about",
                hint="Shift the other way: a feature view sees only what was known at the row's time.",
            )
