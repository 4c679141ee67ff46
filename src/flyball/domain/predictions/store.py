"""The predictions' SQL: sealed segments, what labels match by, labels."""

from collections.abc import Sequence

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.domain.predictions.labels import LabelVersion
from flyball.storage.db import Row, Transaction

_SEGMENT = "path, endpoint, day, first_id, last_id, first_at_us, last_at_us, rows, size_bytes, sealed_at_us, shadows"


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file of sealed predictions.

    Attributes:
        path: Relative to the folder of all predictions.
        endpoint: Whose they are.
        day: The UTC day of all its rows, such as ``2026-03-01``.
        first_id: The least id in it.
        last_id: The greatest.
        first_at_us: When its earliest prediction was answered, in microseconds.
        last_at_us: When its latest was.
        rows: How many it has.
        size_bytes: How long the file is.
        sealed_at_us: When it was written.
        shadows: How many of them only ran beside others.
    """

    path: str
    endpoint: str
    day: str
    first_id: str
    last_id: str
    first_at_us: int
    last_at_us: int
    rows: int
    size_bytes: int
    sealed_at_us: int
    shadows: int = 0


def insert_segment(tx: Transaction, segment: Segment) -> None:
    """Keep where a file of sealed predictions is."""
    tx.execute(
        f"INSERT INTO prediction_segment ({_SEGMENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        msgspec.structs.astuple(segment),
    )


def delete_segments(tx: Transaction, paths: Sequence[str]) -> None:
    """Forget files."""
    tx.execute_many("DELETE FROM prediction_segment WHERE path = ?", [(path,) for path in paths])


def list_segments(
    tx: Transaction, endpoint: str, *, since_us: int | None = None, until_us: int | None = None
) -> list[Segment]:
    """Return an endpoint's files that may hold answers of [since, until), by their first id."""
    where, params = ["endpoint = ?"], [endpoint]
    if since_us is not None:
        where.append("last_at_us >= ?")
        params.append(since_us)  # type: ignore[arg-type]
    if until_us is not None:
        where.append("first_at_us < ?")
        params.append(until_us)  # type: ignore[arg-type]
    rows = tx.rows(f"SELECT {_SEGMENT} FROM prediction_segment WHERE {' AND '.join(where)} ORDER BY first_id", params)
    return [_read_segment(row) for row in rows]


def list_expired_segments(tx: Transaction, endpoint: str, before_us: int) -> list[Segment]:
    """Return an endpoint's files whose last answer was given before an instant, the earliest first."""
    sql = f"SELECT {_SEGMENT} FROM prediction_segment WHERE endpoint = ? AND last_at_us < ? ORDER BY last_at_us, path"
    return [_read_segment(row) for row in tx.rows(sql, (endpoint, before_us))]


def list_newest_segments(tx: Transaction, endpoint: str, limit: int, offset: int) -> list[Segment]:
    """Return an endpoint's files, that with the latest answer first."""
    rows = tx.rows(
        f"SELECT {_SEGMENT} FROM prediction_segment WHERE endpoint = ? ORDER BY last_at_us DESC, path LIMIT ? OFFSET ?",
        (endpoint, limit, offset),
    )
    return [_read_segment(row) for row in rows]


def list_segments_of_id(tx: Transaction, prediction_id: str) -> list[Segment]:
    """Return the files whose range of ids holds an id."""
    rows = tx.rows(
        f"SELECT {_SEGMENT} FROM prediction_segment WHERE first_id <= ? AND last_id >= ?",
        (prediction_id, prediction_id),
    )
    return [_read_segment(row) for row in rows]


def find_scattered_day(tx: Transaction, endpoint: str, *, before: str, more_than: int, small_rows: int) -> str | None:
    """Return the earliest day before another that has more than so many files, small ones on average."""
    found: str | None = tx.value(
        "SELECT day FROM prediction_segment WHERE endpoint = ? AND day < ? "
        "GROUP BY day HAVING count(*) > ? AND sum(rows) < ? * count(*) ORDER BY day LIMIT 1",
        (endpoint, before, more_than, small_rows),
    )
    return found


def list_segments_of_day(tx: Transaction, endpoint: str, day: str) -> list[Segment]:
    """Return an endpoint's files of one day, by their first id."""
    sql = f"SELECT {_SEGMENT} FROM prediction_segment WHERE endpoint = ? AND day = ? ORDER BY first_id"
    return [_read_segment(row) for row in tx.rows(sql, (endpoint, day))]


def count_predictions(tx: Transaction, endpoint: str) -> int:
    """Return how many predictions of an endpoint are sealed, without those that nobody was answered by."""
    sql = "SELECT coalesce(sum(rows - shadows), 0) FROM prediction_segment WHERE endpoint = ?"
    return int(tx.value(sql, (endpoint,)))


def count_sealed(tx: Transaction, endpoint: str) -> int:
    """Return how many predictions of an endpoint are sealed, shadows among them."""
    return int(tx.value("SELECT coalesce(sum(rows), 0) FROM prediction_segment WHERE endpoint = ?", (endpoint,)))


def insert_sealed_sources(tx: Transaction, endpoint: str, names: Sequence[str]) -> None:
    """Remember that open segments have been sealed."""
    tx.execute_many(
        "INSERT INTO prediction_sealed_source (name, endpoint) VALUES (?, ?)", [(name, endpoint) for name in names]
    )


def list_sealed_sources(tx: Transaction, endpoint: str) -> set[str]:
    """Return the sealed open segments whose file may still be there."""
    rows = tx.rows("SELECT name FROM prediction_sealed_source WHERE endpoint = ?", (endpoint,))
    return {row["name"] for row in rows}


def delete_sealed_sources(tx: Transaction, names: Sequence[str]) -> None:
    """Forget sealed open segments whose file is gone."""
    tx.execute_many("DELETE FROM prediction_sealed_source WHERE name = ?", [(name,) for name in names])


def insert_matches(tx: Transaction, matches: Sequence[tuple[int, int, str]]) -> None:
    """Keep by what labels find predictions: digest, the row's time in microseconds, prediction."""
    tx.execute_many("INSERT INTO prediction_match (match_hash, time_us, prediction_id) VALUES (?, ?, ?)", matches)


def delete_matches(tx: Transaction, matches: Sequence[tuple[int, int, str]]) -> None:
    """Forget by what labels find predictions."""
    tx.execute_many("DELETE FROM prediction_match WHERE match_hash = ? AND time_us = ? AND prediction_id = ?", matches)


def list_matches(tx: Transaction, match_hash: int) -> list[str]:
    """Return the predictions of a key, whatever their time."""
    return [
        row["prediction_id"]
        for row in tx.rows("SELECT prediction_id FROM prediction_match WHERE match_hash = ?", (match_hash,))
    ]


def list_matches_at(tx: Transaction, match_hash: int, time_us: int) -> list[str]:
    """Return the predictions of a key whose row has exactly that time."""
    rows = tx.rows(
        "SELECT prediction_id FROM prediction_match WHERE match_hash = ? AND time_us = ?", (match_hash, time_us)
    )
    return [row["prediction_id"] for row in rows]


def find_latest_match_time(tx: Transaction, match_hash: int, time_us: int) -> int | None:
    """Return the latest row time of a key at or before a time, in microseconds."""
    found: int | None = tx.value(
        "SELECT max(time_us) FROM prediction_match WHERE match_hash = ? AND time_us <= ?", (match_hash, time_us)
    )
    return found


def insert_label(tx: Transaction, label: LabelVersion, recorded_at_us: int) -> bool:
    """Keep one version of a label; False when that very version was there already."""
    changed = tx.execute(
        "INSERT INTO prediction_label (endpoint, prediction_id, known_us, at_us, value, source, recorded_at_us) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            label.endpoint,
            label.prediction_id,
            to_us(label.known_at),
            to_us(label.at),
            msgspec.json.encode(label.value).decode(),
            label.source,
            recorded_at_us,
        ),
    )
    return changed == 1


def delete_labels(tx: Transaction, endpoint: str, prediction_ids: Sequence[str]) -> None:
    """Forget all versions of the labels of some predictions."""
    tx.execute_many(
        "DELETE FROM prediction_label WHERE endpoint = ? AND prediction_id = ?",
        [(endpoint, prediction_id) for prediction_id in prediction_ids],
    )


def list_label_versions(tx: Transaction, endpoint: str, prediction_id: str) -> list[LabelVersion]:
    """Return all versions of a prediction's label, the one known first first."""
    rows = tx.rows(
        "SELECT endpoint, prediction_id, known_us, at_us, value, source FROM prediction_label "
        "WHERE endpoint = ? AND prediction_id = ? ORDER BY known_us, at_us, seq",
        (endpoint, prediction_id),
    )
    return [
        LabelVersion(
            endpoint=row["endpoint"],
            prediction_id=row["prediction_id"],
            value=msgspec.json.decode(row["value"]),
            at=from_us(row["at_us"]),
            known_at=from_us(row["known_us"]),
            source=row["source"],
        )
        for row in rows
    ]


def list_label_rows(tx: Transaction, endpoint: str, *, after: int) -> list[Row]:
    """Return the label versions of an endpoint that were kept after a number, in the order of numbers."""
    return tx.rows(
        "SELECT seq, prediction_id, value, at_us, known_us, source FROM prediction_label "
        "WHERE endpoint = ? AND seq > ? ORDER BY seq",
        (endpoint, after),
    )


def find_any_label(tx: Transaction, endpoint: str) -> str | None:
    """Return the value, as JSON, of one label of an endpoint that has one."""
    found: str | None = tx.value(
        "SELECT value FROM prediction_label WHERE endpoint = ? AND value <> 'null' LIMIT 1", (endpoint,)
    )
    return found


def has_label(tx: Transaction, endpoint: str, prediction_id: str) -> bool:
    """Tell whether anything was ever said about how a prediction turned out."""
    sql = "SELECT 1 FROM prediction_label WHERE endpoint = ? AND prediction_id = ? LIMIT 1"
    return tx.value(sql, (endpoint, prediction_id)) is not None


def last_label_seq(tx: Transaction) -> int:
    """Return the number of the newest label version; 0 when there is none."""
    return int(tx.value("SELECT coalesce(max(seq), 0) FROM prediction_label"))


def _read_segment(row: Row) -> Segment:
    return Segment(**{name: row[name] for name in Segment.__struct_fields__})
