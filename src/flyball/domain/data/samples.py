"""A slice of every table, the same one each time: rows are chosen by their keys, so that tables still fit together."""

from hashlib import blake2b
from pathlib import Path

import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.domain.data.tables import Table

SAMPLE_FILE = "sample"
_PARTS = 1_000_000


def parse_share(text: str) -> float:
    """Read a share such as ``1%`` or ``0.01``.

    Raises:
        InvalidInputError: It is not a share between nothing and everything.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InvalidInputError(f"the sample {text!r} is not a share of the rows", hint="Write it as 1% or 0.01.")
    return share


def open_sample_home(home: Path, share: float) -> Path:
    """Return a home of its own for runs over a slice: nothing of them can go live, or mix with what is."""
    place = home / "samples" / f"{share * 100:g}%"
    place.mkdir(parents=True, exist_ok=True)
    (place / SAMPLE_FILE).write_text(f"{share}\n", encoding="utf-8")
    return place


def share_of(home: Path) -> float:
    """Return the share of the rows that a home works with; 1 for all but those made for a sample."""
    place = home / SAMPLE_FILE
    return float(place.read_text(encoding="utf-8")) if place.exists() else 1.0


def sample_rows(table: Table, share: float) -> pl.Expr:
    """Return the filter that keeps a share of a table's rows, decided by its entity, else its key or its time.

    Tables of one entity keep the same ones, whatever the types of their key columns.
    """
    keys = (table.entity.keys if table.entity else ()) or table.key or ((table.time,) if table.time else ())
    texts = (
        pl.concat_str([pl.col(key).cast(pl.String) for key in keys], separator="\x1f", ignore_nulls=True)
        if keys
        else pl.int_range(pl.len()).cast(pl.String)
    )
    parts = texts.map_batches(_parts_of, return_dtype=pl.UInt32(), is_elementwise=True)
    return parts < int(share * _PARTS)


def _parts_of(texts: pl.Series) -> pl.Series:
    """Return a number for each text that is the same with every release; Polars' own hashes are not."""
    distinct = texts.unique()
    digests = [blake2b(text.encode(), digest_size=8).digest() for text in distinct]
    parts = pl.Series([int.from_bytes(digest, "little") % _PARTS for digest in digests], dtype=pl.UInt32)
    return texts.replace_strict(distinct, parts, return_dtype=pl.UInt32())
