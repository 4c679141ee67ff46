"""The limit of features over HTTP: bare ASGI, one MGET of packed values, the same JSON; no types, ttl or checks.

Usage: python features_bare.py REDIS_URL PORT
"""

import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import redis
import uvicorn

FEATURES = [f"mean_{number}" for number in range(10)] + [f"count_{number}" for number in range(10)]
_EPOCH = "1970-01-01T00:00:00Z"


class _Asked(msgspec.Struct):
    entities: dict[str, list[Any]]
    features: list[str]


def main(url: str, port: str) -> None:
    client: Any = redis.Redis.from_url(url)
    read = msgspec.json.Decoder(_Asked).decode
    write = msgspec.json.Encoder().encode
    pack, unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[Any]).decode
    time = datetime(2026, 3, 1, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        asked = read((await receive())["body"])
        keys = asked.entities["customer_id"]
        rows = [unpack(value) for value in client.mget([b"tx" + pack((key,)) for key in keys])]
        present, times = ["PRESENT"] * len(keys), [time] * len(keys)
        results: list[Any] = [{"values": keys, "statuses": present, "event_timestamps": [_EPOCH] * len(keys)}]
        results += [
            {"values": values, "statuses": present, "event_timestamps": times} for values in zip(*rows, strict=True)
        ]
        answer = write({"results": results, "metadata": {"feature_names": ["customer_id", *FEATURES]}})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "lifespan": "off", "ws": "none"}
    uvicorn.run(app, port=int(port), log_level="error", access_log=False, date_header=False, **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
