"""Expectations proposed from what a table holds now, as code for a person to edit."""

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from flyball.domain.data.expectations import ColumnRules, column, flatten, rows_at_least, unique_together
from flyball.domain.data.languages import guess_language
from flyball.domain.data.rules import Rule
from flyball.domain.data.schemas import Schema

_MOST_CATEGORIES = 20
_MOST_LISTED = 8  # more numbers than that are a range with gaps
_LONGEST_CATEGORY = 100  # signs; longer texts are no categories
_LARGEST = 2**63 - 1
_ROWS_A_CATEGORY = 20  # fewer rows for each value, and tomorrow will bring another one
_TEXTS_READ = 5_000
_ROOM = 0.25  # of the range seen, to each side: the next values are a little beyond the last ones
_SHAPES = ((r"[0-9]", r"\d"), (r"[A-Z]", "[A-Z]"), (r"[a-z]", "[a-z]"))


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """Expectations that a table meets now.

    Attributes:
        table: The table's name in the project file.
        code: Python to paste below its declaration.
        rules: The rules that the code declares.
    """

    table: str
    code: str
    rules: tuple[Rule, ...]


class _Chain:
    """Builds a chain of rules and the code that says the same."""

    def __init__(self, name: str) -> None:
        self.rules = column(name)
        self.code = f"fb.column({_literal(name)})"

    def add(self, method: str, *arguments: Any, **keywords: Any) -> None:
        said = [_literal(value) for value in arguments] + [f"{key}={_literal(v)}" for key, v in keywords.items()]
        self.rules = getattr(self.rules, method)(*arguments, **keywords)
        self.code += f".{method}({', '.join(said)})"


def propose_expectations(
    frame: pl.DataFrame, *, table: str, keys: Sequence[str] = (), time: str | None = None
) -> Proposal:
    """Propose what could be expected of a table: types of values, ranges, lists, shapes, missing values, order.

    Every proposal holds for the frame; whether it should hold for ever is for a person to say.

    Args:
        frame: The rows.
        table: The table's name.
        keys: Columns that identify a row.
        time: The column that says when a row held.
    """
    chains = [_propose(frame.get_column(name), name, keys, time) for name in frame.columns]
    told = [chain for chain in chains if chain.rules.is_told]
    least = _round_down(frame.height / 2)
    expectations: list[Rule | ColumnRules] = [rows_at_least(least), *(chain.rules for chain in told)]
    lines = [f"fb.rows_at_least({least:_})", *(chain.code for chain in told)]
    if len(keys) > 1 and not frame.select(keys).is_duplicated().any():
        expectations.append(unique_together(*keys))
        lines.append(f"fb.unique_together({', '.join(map(_literal, keys))})")
    code = f"{table}.expect(\n" + "".join(f"    {line},\n" for line in lines) + ")\n"
    return Proposal(table=table, code=code, rules=flatten(expectations, of=table))


def _propose(values: pl.Series, name: str, keys: Sequence[str], time: str | None) -> _Chain:
    chain, given = _Chain(name), values.drop_nulls()
    nulls = values.null_count()
    if not nulls:
        chain.add("not_null")
    elif len(given):
        chain.add("nulls_at_most", min(1.0, math.ceil(min(1.0, 1.5 * nulls / len(values)) * 100) / 100))
    if not len(given):
        return chain
    if list(keys) == [name] and given.n_unique() == len(values):
        chain.add("unique")
    dtype = Schema.of(values.to_frame()).fields[0].dtype
    if dtype in ("int", "float"):
        _propose_numbers(chain, given, is_key=name in keys)
    elif dtype == "string":
        _propose_texts(chain, given.cast(pl.String))
    elif dtype == "datetime" and name == time and given.is_sorted():
        chain.add("increasing")
    return chain


def _propose_numbers(chain: _Chain, given: pl.Series, *, is_key: bool) -> None:
    numbers = given.cast(pl.Float64)
    finite = numbers.filter(numbers.is_finite())
    if is_key or not len(finite) or len(finite) < len(numbers):
        return
    if given.dtype.is_integer() and given.max() > _LARGEST:  # type: ignore[operator]  # no limit can be so large
        return
    distinct = given.n_unique()
    if given.dtype.is_integer() and distinct <= _MOST_CATEGORIES and len(given) >= distinct * _ROWS_A_CATEGORY:
        known = sorted(given.unique().to_list())
        is_list = 1 < distinct <= _MOST_LISTED and distinct < known[-1] - known[0] + 1
        if is_list:
            chain.add("is_in", known)
        else:
            chain.add("between", known[0], known[-1])
        return
    low, high = float(finite.min()), float(finite.max())  # type: ignore[arg-type]
    room = (high - low) * _ROOM
    least = 0.0 if 0 <= low <= room else _nice(low - room, math.floor)
    most = 0.0 if -room <= high <= 0 else _nice(high + room, math.ceil)
    if given.dtype.is_integer():
        chain.add("between", max(int(least), -_LARGEST - 1), min(int(most), _LARGEST))
    else:
        chain.add("between", least if math.isfinite(least) else low, most if math.isfinite(most) else high)


def _propose_texts(chain: _Chain, texts: pl.Series) -> None:
    distinct, longest = texts.n_unique(), int(texts.str.len_chars().max())  # type: ignore[arg-type]
    is_listed = longest <= _LONGEST_CATEGORY
    if is_listed and distinct <= _MOST_CATEGORIES and len(texts) >= distinct * _ROWS_A_CATEGORY:
        chain.add("is_in", sorted(texts.unique().to_list()))
        return
    shape = _shape(texts)
    if shape:
        chain.add("matches", shape)
        return
    words = texts.head(_TEXTS_READ).str.to_lowercase().str.extract_all(r"\p{L}+").explode(empty_as_null=False)
    counts = dict(words.alias("word").value_counts(sort=True).head(60).iter_rows())
    language = guess_language({word: count for word, count in counts.items() if word})
    if language and len(words) > 5 * len(texts.head(_TEXTS_READ)):
        chain.add("language", language)


def _shape(texts: pl.Series) -> str:
    """Return the one pattern that all texts have, such as ``[A-Z]{2}-\\d{4}``; empty if they have several."""
    shapes = texts.head(_TEXTS_READ)
    for pattern, sign in (("[0-9]", "\x01"), ("[A-Z]", "\x02"), ("[a-z]", "\x03")):
        shapes = shapes.str.replace_all(pattern, sign)
    if shapes.n_unique() > 1 or not shapes[0] or not re.search("[\x01-\x03]", shapes[0]):
        return ""
    written = []
    for run in re.finditer(r"(.)\1*", shapes[0], re.DOTALL):
        sign, count = run[1], len(run[0])
        part = {"\x01": r"\d", "\x02": "[A-Z]", "\x03": "[a-z]"}.get(sign) or re.escape(sign)
        written.append(part if count == 1 else f"{part}{{{count}}}")
    pattern = "".join(written)
    return pattern if texts.str.contains(rf"\A(?:{pattern})\z".replace(r"\d", "[0-9]")).all() else ""


def _nice(value: float, towards: Any) -> float:
    """Round outwards to two significant digits."""
    if not value or not math.isfinite(value):
        return value
    size = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    if not size:  # smaller numbers than that have no two digits
        return value
    return float(f"{towards(value / size) * size:.6g}")


def _round_down(rows: float) -> int:
    if rows < 10:
        return max(1, int(rows))
    size = 10 ** (len(str(int(rows))) - 1)
    return int(rows // size * size)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        if '"' in value or not value.isprintable():
            return repr(value)
        return f'r"{value}"' if "\\" in value and not value.endswith("\\") else '"' + value + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{int(value):_}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return repr(value)
