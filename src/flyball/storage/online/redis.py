"""An online store on Redis, for gateways on several machines."""

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from flyball.core.clock import monotonic_s
from flyball.core.errors import BackendError, BackendUnavailableError, InvalidInputError
from flyball.storage.online.port import OnlineRow, newest_rows
from flyball.storage.online.values import decode_rows, pack_times
from flyball.storage.tables.urls import mask

T = TypeVar("T")
_BATCH = 1_000  # rows of one script: a few milliseconds in which Redis serves nobody else
_WRITE_TIMEOUT_S = 10.0

# Keeps the newest of each field's values; a tie keeps the stored one. Numbers of a Lua script have 53 bits, so the
# two times are compared as four numbers of 32.
_WRITE = """
local half, first = #ARGV / 2, 0
for number, view in ipairs(KEYS) do
  local stored, changed = redis.call('HMGET', view, unpack(ARGV, 1, half)), {}
  for i = 1, half do
    local old, new = stored[i], ARGV[half + i]
    local is_newer = not old
    if old then
      local a, b, c, d = struct.unpack('>i4I4i4I4', old)
      local e, f, g, h = struct.unpack('>i4I4i4I4', new)
      if a ~= e then is_newer = e > a
      elseif b ~= f then is_newer = f > b
      elseif c ~= g then is_newer = g > c
      else is_newer = h > d end
    end
    if is_newer then
      changed[#changed + 1] = ARGV[i]
      changed[#changed + 1] = new
    end
  end
  if #changed > 0 then redis.call('HSET', view, unpack(changed)) end
  if number == 1 then first = #changed / 2 end
end
return first
"""
# Puts rows beside the view's own and tells how many of their keys the view has, and how many with that very value.
_ADD = """
local half = #ARGV / 2
local stored = redis.call('HMGET', KEYS[1], unpack(ARGV, 1, half))
local pairs, found, same = {}, 0, 0
for i = 1, half do
  if stored[i] then found = found + 1 end
  if stored[i] == ARGV[half + i] then same = same + 1 end
  pairs[2 * i - 1] = ARGV[i]
  pairs[2 * i] = ARGV[half + i]
end
redis.call('HSET', KEYS[2], unpack(pairs))
redis.call('EXPIRE', KEYS[2], 3600)  -- for a writer that is killed
return {found, same}
"""
# Puts the new rows in the place of the view's own, at one instant; returns how many there were before.
_SWAP = """
if redis.call('HLEN', KEYS[2]) ~= tonumber(ARGV[1]) then return -1 end
local before = redis.call('HLEN', KEYS[1])
redis.call('UNLINK', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('RENAME', KEYS[2], KEYS[1])
  redis.call('PERSIST', KEYS[1])
end
return before
"""


class RedisOnlineStore:
    """Implements `OnlineStore` on Redis: one hash a view, one packed value an entity.

    A `replace` builds the new rows beside the old ones and swaps them at one instant. A `write` is whole for each
    1,000 rows. What is written is as durable as the server's own settings make it.

    A server that does not answer costs one read the timeout; for the next second reads are refused at once.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py takes them. ``?prefix=NAME`` keeps projects on one
            server apart.
        timeout_s: How long a read waits.
        pause_s: For how long reads are refused after the server did not answer.
    """

    def __init__(self, url: str, *, timeout_s: float = 0.25, pause_s: float = 1.0) -> None:
        self._shown = mask(url)
        server, self._prefix = _split_prefix(url)
        self._reading = _Line(self._connect(server, timeout_s).connection_pool)
        self._writing = self._connect(server, _WRITE_TIMEOUT_S)
        self._telling = _Line(self._writing.connection_pool)
        self._breaker = _Breaker(pause_s)
        self._write = self._writing.register_script(_WRITE)
        self._add = self._writing.register_script(_ADD)
        self._swap = self._writing.register_script(_SWAP)

    @classmethod
    def open(cls, url: str, home: Path, timeout_s: float, *, is_synced: bool) -> "RedisOnlineStore":
        """Return the store of a URL; nothing is connected yet, and nothing lies in the home or is synced from here."""
        del home, is_synced
        return cls(url, timeout_s=timeout_s)

    def write(self, view: str, rows: Sequence[OnlineRow], *, copy: str | None = None) -> int:
        """See `OnlineStore.write`."""
        places = [self._place(name) for name in (view, copy) if name is not None]
        batches = list(_batches(newest_rows(rows)))
        return self._try(lambda: sum(self._write_batch(places, batch) for batch in batches))

    def _write_batch(self, places: Sequence[bytes], batch: Sequence[bytes]) -> int:
        try:
            return int(self._telling.ask("EVALSHA", self._write.sha, len(places), *places, *batch))
        except NoScriptError:  # of a server that does not know it yet, or no longer
            return int(self._write(keys=places, args=batch))

    def replace(self, view: str, rows: Sequence[OnlineRow]) -> int:
        """See `OnlineStore.replace`."""
        newest = newest_rows(rows)
        place = self._place(view)
        new = place + b":new:" + secrets.token_hex(8).encode()

        def replace() -> int:
            found = same = 0
            try:
                for batch in _batches(newest):
                    is_there, is_same = self._add(keys=[place, new], args=batch)
                    found, same = found + int(is_there), same + int(is_same)
                before = int(self._swap(keys=[place, new], args=[len(newest)]))
            except BaseException:
                self._discard(new)
                raise
            if before < 0:
                raise BackendUnavailableError(f"the online store {self._shown} lost rows while they were written")
            return len(newest) - same + max(0, before - found)

        return self._try(replace)

    def read(self, view: str, keys: Sequence[bytes]) -> list[OnlineRow | None]:
        """See `OnlineStore.read`."""
        if not keys:
            return []
        self._breaker.check(self._shown)
        try:
            found: list[bytes | None] = self._reading.ask("HMGET", self._place(view), *keys)
        except redis.RedisError as error:
            self._breaker.open()
            raise self._failed(error) from error
        self._breaker.close()
        return decode_rows(keys, found)

    def delete(self, view: str, keys: Sequence[bytes]) -> int:
        """See `OnlineStore.delete`."""
        if not keys:
            return 0
        return self._try(lambda: int(self._writing.execute_command("HDEL", self._place(view), *keys)))

    def scan(self, view: str) -> Iterator[OnlineRow]:
        """See `OnlineStore.scan`."""
        cursor = -1
        while cursor != 0:
            cursor, pairs = self._try(
                partial(self._writing.hscan, self._place(view), cursor=max(cursor, 0), count=_BATCH)
            )
            yield from (row for row in decode_rows(list(pairs), list(pairs.values())) if row is not None)

    def _place(self, view: str) -> bytes:
        return self._prefix + view.encode()

    def _discard(self, place: bytes) -> None:
        with suppress(redis.RedisError):  # the server forgets it after an hour
            self._writing.unlink(place)

    def _try(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except redis.RedisError as error:
            raise self._failed(error) from error

    def _failed(self, error: redis.RedisError) -> BackendError:
        text = f"the online store {self._shown} could not be used: {str(error) or type(error).__name__}"
        if isinstance(error, redis.ConnectionError | redis.TimeoutError):
            return BackendUnavailableError(text, hint="Start the server, or correct the setting: online.")
        return BackendError(text, hint="Correct the server, or the setting: online.")

    def _connect(self, url: str, timeout_s: float) -> Any:  # redis-py's own types speak of text and of awaitables
        try:
            return redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                # A connection that the server has closed meanwhile is opened again, once.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
                health_check_interval=0,
            )
        except (ValueError, TypeError) as error:
            raise InvalidInputError(
                f"the setting online, {self._shown}, is no address of a Redis server: {error}",
                hint="Write it as redis://HOST:PORT/DATABASE",
            ) from error


class _Line:
    """One connection for each thread, kept: taking it from a pool for each read costs as much as the read."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._local = threading.local()

    def ask(self, *command: Any) -> Any:
        """Send a command and return its answer; what was closed meanwhile is opened again, once."""
        connection = self._connection()
        try:
            try:
                return self._ask(connection, command)
            except redis.ConnectionError:
                connection.disconnect()
                return self._ask(connection, command)
        except BaseException:
            # An answer that comes too late must not be taken for that of the next command.
            connection.disconnect()
            raise

    def _ask(self, connection: Any, command: tuple[Any, ...]) -> Any:
        connection.send_packed_command([pack_command(command)])  # redis-py would look at each argument before
        return connection.read_response()

    def _connection(self) -> Any:
        if getattr(self._local, "pid", None) != os.getpid():  # a connection must not be used across a fork
            self._local.connection, self._local.pid = self._pool.make_connection(), os.getpid()
        return self._local.connection


class _Breaker:
    """After a failure, refuses for a while; then lets one caller try."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._until_s = 0.0
        self._is_open = False
        self._lock = threading.Lock()

    def check(self, what: str) -> None:
        if not self._is_open:
            return
        with self._lock:
            now = monotonic_s()
            if now < self._until_s:
                raise BackendUnavailableError(
                    f"the online store {what} did not answer {now - self._until_s + self._pause_s:.1f} s ago",
                    hint="Start the server; reads go on by themselves.",
                )
            self._until_s = now + self._pause_s

    def open(self) -> None:
        with self._lock:
            self._is_open, self._until_s = True, monotonic_s() + self._pause_s

    def close(self) -> None:
        if self._is_open:
            with self._lock:
                self._is_open = False


def _split_prefix(url: str) -> tuple[str, bytes]:
    """Return the server's URL and how the names of its keys begin."""
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    prefix = dict(options).get("prefix", "flyball")
    query = urlencode([(name, value) for name, value in options if name != "prefix"])
    return urlunsplit(parts._replace(query=query)), f"{prefix}:online:".encode()


def _batches(rows: Mapping[bytes, OnlineRow]) -> Iterator[list[bytes]]:
    """Yield the arguments of scripts: the keys of some rows, then their values."""
    keys = list(rows)
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        yield [*batch, *(_encode(rows[key]) for key in batch)]


def _encode(row: OnlineRow) -> bytes:
    return pack_times(row.event_time_us, row.known_us) + row.payload
