"""CSV files, typed by all of their rows.

Text is never made a number if that would change it: ``007`` and ``+49`` stay text. A line with more or fewer fields
than the header, and a single text in a column of numbers, are refused by their number instead of being made to fit.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.storage.tables.sources import SourceUnreadableError

_LINE = "\x01"  # as a separator: a line as a whole
_WHOLE = r"^-?(?:0|[1-9]\d{0,18})$"
_PADDED = r"^(?:\+|-?0\d)|\s"
_TRUTH = r"^(?i:true|false)$"
# One text among a thousand numbers is a slip of the pen; more of them are what the column holds.
_SLIPS = 0.001
_TYPES: dict[str, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "string": pl.String(),
    "bool": pl.Boolean(),
    "datetime": pl.String(),
    "date": pl.String(),
}


class LineUnreadableError(InvalidInputError):
    """One line of a CSV file does not fit the others."""

    code = "data/line-unreadable"

    def __init__(self, what: str, place: str, problem: str, hint: str) -> None:
        super().__init__(f"the {what} cannot be read: {place} {problem}", hint=hint)


def scan_csv(
    paths: Sequence[Path], *, nulls: Sequence[str], what: str, types: Mapping[str, str] | None = None
) -> pl.LazyFrame:
    """Scan CSV files with a header; the types are those that fit every row, dates stay text.

    Args:
        paths: Files with the same columns.
        nulls: Texts that mean that a value is missing, besides the empty one.
        what: The table, for errors.
        types: Types of columns that are said instead of told by their values.

    Raises:
        LineUnreadableError: A line has other fields than the header or is not UTF-8, or one text stands among numbers.
        SourceUnreadableError: A file is empty, or its rows do not fit its header.
        InvalidInputError: The files differ in their columns, a header names a column twice, or fields are not divided
            by commas.
    """
    header: list[str] = []
    for path in paths:
        names = _header(path, what)
        if header and names != header:
            raise InvalidInputError(
                f"the {what} has files with different columns: {path.name!r} and {paths[0].name!r}",
                hint="Give all files the same header.",
            )
        header = names
    try:
        for path in paths:
            _require_whole_lines(path, header, what)
        schema = _schema(paths, header, [*nulls], what, types or {})
    except (pl.exceptions.PolarsError, OSError) as error:
        for path in paths:
            _require_utf8(path, what)
        raise SourceUnreadableError(what, paths[0], first_line(error)) from error
    return pl.scan_csv(list(paths), null_values=[*nulls] or None, schema=schema, glob=False)


def _require_whole_lines(path: Path, header: list[str], what: str) -> None:
    """Compare the separators of every line with the header's: Polars would fill up a line that was cut off."""
    lines = pl.scan_csv(
        path, separator=_LINE, quote_char=None, has_header=False, schema={"line": pl.String}, glob=False
    ).with_row_index("number", 1)
    line = pl.col("line")
    quotes = line.str.contains('"', literal=True)
    bare = pl.when(quotes).then(line.str.replace_all('"[^"]*"', "")).otherwise(line)
    commas = bare.str.count_matches(",", literal=True)
    is_split = quotes & (line.str.count_matches('"', literal=True) % 2 == 1)
    found = lines.filter((commas != len(header) - 1) | is_split).head(1).collect(engine="streaming")
    if not found.height:
        return
    number, fields = _first_unfit_line(path, len(header), int(found["number"][0]), str(found["line"][0]))
    if number:
        raise LineUnreadableError(
            what,
            f"line {number:,} of {path.name!r}",
            f"has {fields} fields instead of {len(header)}",
            "Correct the line; a comma inside a value needs quotes around the value.",
        )


def _first_unfit_line(path: Path, fields: int, number: int, line: str) -> tuple[int, int]:
    """Return the number of the first line with another number of fields, and that number; zeros if there is none."""
    if '"' not in line:
        found = line.count(",") + 1
        if line.strip() and found != fields:
            return number, found
    # Values with line ends in them, or empty lines: read as CSV, record by record.
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(file)
        begin = 1
        for record in reader:
            if record and len(record) != fields:
                return begin, len(record)
            begin = reader.line_num + 1
    return 0, 0


def _schema(
    paths: Sequence[Path], header: list[str], nulls: list[str], what: str, types: Mapping[str, str]
) -> pl.Schema:
    """Tell each column's type by all of its values, in one pass that keeps none of them."""
    texts = pl.scan_csv(list(paths), null_values=nulls or None, schema=dict.fromkeys(header, pl.String()), glob=False)
    measures = []
    for number, name in enumerate(header):
        value = pl.col(name)
        given = value.is_not_null() & (value != "")
        measures.append(
            pl.struct(
                given=given.sum(),
                whole=(given & value.str.contains(_WHOLE) & value.cast(pl.Int64, strict=False).is_not_null()).sum(),
                number=(given & value.cast(pl.Float64, strict=False).is_not_null()).sum(),
                padded=(given & value.str.contains(_PADDED)).sum(),
                truth=(given & value.str.contains(_TRUTH)).sum(),
            ).alias(str(number))
        )
    counted = texts.select(measures).collect(engine="streaming").row(0)
    schema: dict[str, pl.DataType] = {}
    for name, counts in zip(header, counted, strict=True):
        declared = types.get(name)
        schema[name] = _TYPES[declared] if declared else _guess(counts)
        fitting = {"int": "whole", "float": "number", "bool": "truth"}.get(declared or "")
        unfit = counts["given"] - counts["number"]
        is_slip = not declared and schema[name] == pl.String and 0 < unfit <= counts["given"] * _SLIPS
        if (fitting and counts[fitting] < counts["given"]) or (is_slip and not counts["padded"]):
            _refuse_value(texts, name, declared or "float", counts["given"], what)
    return pl.Schema(schema)


def _guess(counts: Mapping[str, int]) -> pl.DataType:
    given = counts["given"]
    if not given:
        return pl.String()
    if counts["whole"] == given:
        return pl.Int64()
    if counts["number"] == given and not counts["padded"]:
        return pl.Float64()
    return pl.Boolean() if counts["truth"] == given else pl.String()


def _refuse_value(texts: pl.LazyFrame, name: str, dtype: str, given: int, what: str) -> None:
    value = pl.col(name)
    fits: Any = {
        "int": value.str.contains(_WHOLE),
        "float": value.cast(pl.Float64, strict=False).is_not_null(),
        "bool": value.str.contains(_TRUTH),
    }[dtype]
    rows = texts.select(value).with_row_index(f"{_LINE}number", 1).filter((value != "") & ~fits).head(1)
    number, text = rows.collect(engine="streaming").row(0)
    others = {"int": "whole numbers", "float": "numbers", "bool": "true or false"}[dtype]
    raise LineUnreadableError(
        what,
        f"row {number:,}",
        f"holds {text!r} in column {name!r}, where nearly all {given:,} values are {others}",
        f'Correct the row, say nulls=["{text}"] if it means that nothing is there, or types={{"{name}": "string"}} if '
        "the column holds text.",
    )


def _require_utf8(path: Path, what: str) -> None:
    """Refuse a file in another encoding, by its first line that tells."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise LineUnreadableError(
                    what,
                    f"line {number:,} of {path.name!r}",
                    f"is not text in UTF-8 ({error.object[error.start : error.end]!r} at byte {error.start + 1:,})",
                    f"Convert the file; if it comes from Excel on Windows: iconv -f WINDOWS-1252 -t UTF-8 {path.name}",
                ) from error


def _require_commas(path: Path, header: Sequence[str], what: str) -> None:
    """Refuse a file whose lines are all divided by something else, which would be read as one column."""
    if len(header) > 1:
        return
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [file.readline(), file.readline()]
    for separator in (";", "\t", "|"):
        counts = {line.count(separator) for line in lines if line.strip()}
        if len(counts) == 1 and counts != {0}:
            raise InvalidInputError(
                f"the {what} cannot be read: {path.name!r} divides its fields by {separator!r} instead of commas",
                hint=f"Write the file again: pl.read_csv({path.name!r}, separator={separator!r}).write_csv(...)",
            )


def first_line(error: BaseException) -> str:
    """Return the first line of an error of Polars; the rest advises on Polars' own options."""
    return str(error).strip().partition("\n")[0]


def _header(path: Path, what: str) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names = next(csv.reader(file), [])
    except UnicodeDecodeError as error:
        _require_utf8(path, what)
        raise SourceUnreadableError(what, path, first_line(error)) from error
    except (OSError, csv.Error) as error:
        raise SourceUnreadableError(what, path, first_line(error)) from error
    if not names:
        raise SourceUnreadableError(what, path, "it has no header")
    _require_commas(path, names, what)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(
            f"the {what} has the column {twice[0]!r} more than once in {path.name!r}",
            hint="Rename the columns in the file's first line.",
        )
    return names
