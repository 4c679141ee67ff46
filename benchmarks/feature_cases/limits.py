"""What the stores themselves can do: no types, no ttl, no newest-wins; one packed value an entity."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import polars as pl
import redis

from benchmarks.feature_cases.project import FEATURES

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode
_BATCH = 1_000
Read = Callable[[Sequence[int]], list[list[Any] | None]]
Write = Callable[[Sequence[tuple[int, bytes]]], None]


def pack(frame: pl.DataFrame) -> list[tuple[int, bytes]]:
    """Return each row's key and packed values."""
    keys = frame.get_column("customer_id").to_list()
    return list(zip(keys, map(_encode, frame.select(FEATURES).iter_rows()), strict=True))


def newest(path: Path) -> pl.DataFrame:
    """Return each customer's newest row of a table."""
    return pl.scan_parquet(path).sort("at").unique("customer_id", keep="last").collect()


def open_lmdb(folder: Path, *, is_synced: bool = True) -> tuple[Read, Write]:
    """Return how LMDB is read and written; as safe from a power cut as the online store, or not at all."""
    environment = lmdb.open(str(folder), map_size=1 << 30, metasync=False, sync=is_synced)

    def read(keys: Sequence[int]) -> list[list[Any] | None]:
        with environment.begin() as transaction:
            found = [transaction.get(_encode((key,))) for key in keys]
        return [None if value is None else _decode(value) for value in found]

    def write(rows: Sequence[tuple[int, bytes]]) -> None:
        with environment.begin(write=True) as transaction:
            for key, value in rows:
                transaction.put(_encode((key,)), value)

    return read, write


def open_redis(url: str) -> tuple[Read, Write]:
    """Return how Redis is read by MGET and written by a pipeline."""
    client: Any = redis.Redis.from_url(url)

    def read(keys: Sequence[int]) -> list[list[Any] | None]:
        found = client.mget([b"tx" + _encode((key,)) for key in keys])
        return [None if value is None else _decode(value) for value in found]

    def write(rows: Sequence[tuple[int, bytes]]) -> None:
        for start in range(0, len(rows), _BATCH):
            pipeline = client.pipeline(transaction=False)
            for key, value in rows[start : start + _BATCH]:
                pipeline.set(b"tx" + _encode((key,)), value)
            pipeline.execute()

    return read, write
