"""Feast's HTTP protocol as an ASGI application beside the gateway's own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError, UnknownNameError
from flyball.domain.features.materialising import MaterialisationRunningError
from flyball.domain.features.vectors import VectorPlan, read_vectors
from flyball.domain.features.views import FeatureView
from flyball.server.asgi import Receive, Scope, Send
from flyball.server.feast.jobs import MaterialisationJobs
from flyball.server.feast.wire import GetFeatures, Materialise, PushRows, WriteRows, encode_vectors
from flyball.server.inference.messages import JSON, DisconnectedError, Reply, allow_header, end_unread, read_body
from flyball.server.problems import (
    BodyTooLargeError,
    BodyUnreadableError,
    MediaTypeError,
    MethodNotAllowedError,
    status_of,
)
from flyball.workspace.workspace import Workspace

T = TypeVar("T")
PATHS = ("/get-online-features", "/push", "/write-to-online-store", "/materialize", "/materialize-incremental")
_MANY = 2_000  # entities; looking up more would hold up other requests
_NOTHING = b"null"
_log = logging.getLogger("flyball.feast")
_encode = msgspec.json.Encoder(enc_hook=str).encode


def serves(path: str) -> bool:
    """Tell whether an address belongs to Feast's protocol."""
    return path in PATHS


class PushSourceUnknownError(InvalidInputError):
    """Nothing of a project takes rows by that name."""

    code = "features/push-source-unknown"

    def __init__(self, name: str, views: list[str], tables: list[str]) -> None:
        super().__init__(
            f"no feature view or table is named {name!r}, so nothing can be pushed to it",
            hint=f"There is {', '.join([*views, *tables]) or 'none'}.",
        )


class FeastApp:
    """Serves the protocol for one process.

    Args:
        workspace: The project and its rooms.
        max_body_bytes: A longer body is refused unread.
    """

    def __init__(self, workspace: Workspace, *, max_body_bytes: int = 8_000_000) -> None:
        self._workspace = workspace
        self._max_body_bytes = max_body_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feast")
        self._jobs = MaterialisationJobs(workspace)
        self._handlers: dict[str, Callable[[bytes, Scope], Awaitable[Reply]]] = {
            "/get-online-features": self._get_online_features,
            "/write-to-online-store": self._write,
            "/push": self._push,
            "/materialize": self._materialise,
            "/materialize-incremental": self._materialise,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        path = scope["path"]
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowedError(scope["method"], path, "POST")
            body = await read_body(dict(scope["headers"]), receive, self._max_body_bytes)
            if "_views" not in vars(self):
                # The gateway may not have needed the project's file until now; running it may take seconds.
                await self._in_thread(lambda: self._views)
            reply = await self._handlers[path](body, scope)
        except DisconnectedError:
            return
        except FlyballError as error:
            reply = refuse(error)
        except Exception:  # noqa: BLE001 - the request's edge: one bad request must not end the process
            _log.exception("POST %s failed", path)
            reply = Reply(500, _encode({"detail": "something went wrong inside Flyball; its log has the reason"}))
        await _send(send, reply)
        if reply.is_last:
            await end_unread(scope, receive, send)

    @cached_property
    def _views(self) -> dict[str, FeatureView]:
        return self._workspace.project.views

    async def _get_online_features(self, body: bytes, _scope: Scope) -> Reply:
        asked = _read(body, GetFeatures)
        height = max((len(values) for values in asked.entities.values()), default=0)
        if height <= _MANY:
            return self._look_up(asked)
        return await self._in_thread(self._look_up, asked)

    def _look_up(self, asked: GetFeatures) -> Reply:
        plan = self._plan(asked)
        features = self._workspace.features
        vectors = read_vectors(features.online, plan, asked.entities, self._workspace.clock.now())
        views = None
        if asked.include_feature_view_version_metadata:
            views = [(view.name, view.version) for view in plan.wanted]
        return Reply(200, encode_vectors(vectors, views))

    def _plan(self, asked: GetFeatures) -> VectorPlan:
        if (asked.features is None) == (asked.feature_service is None):
            raise InvalidInputError(
                "one of features and feature_service must be given", hint='Such as {"features": ["view:feature"]}.'
            )
        features = asked.features
        if asked.feature_service is not None:
            features = self._workspace.project.feature_list(asked.feature_service)
        return self._workspace.features.plan_vectors(
            features or [], self._views, has_full_names=asked.full_feature_names
        )

    async def _write(self, body: bytes, _scope: Scope) -> Reply:
        rows = _read(body, WriteRows)
        await self._in_thread(self._workspace.features.push, self._view(rows.feature_view_name), rows.df)
        return Reply(200, _NOTHING)

    async def _push(self, body: bytes, _scope: Scope) -> Reply:
        rows = _read(body, PushRows)
        if rows.to not in ("online", "offline", "online_and_offline"):
            raise InvalidInputError(
                f"rows cannot be pushed to {rows.to!r}", hint="Push to online, offline or online_and_offline."
            )
        if rows.to != "online":
            raise InvalidInputError(
                f"rows cannot be pushed to {rows.to!r} over this protocol",
                hint="Write them to the table's source; the next materialisation takes them from there.",
            )
        for view in self._views_of(rows.push_source_name):
            await self._in_thread(self._workspace.features.push, view, rows.df)
        return Reply(200, _NOTHING)

    def _view(self, name: str) -> FeatureView:
        if name not in self._views:
            raise UnknownNameError("feature view", name, self._views)
        return self._views[name]

    def _views_of(self, name: str) -> list[FeatureView]:
        """Return the views that a push source means: the one of its name, or all of the table of its name."""
        if name in self._views:
            return [self._views[name]]
        found = [view for view in self._views.values() if view.table.name == name]
        if not found:
            raise PushSourceUnknownError(name, sorted(self._views), sorted(self._workspace.project.tables))
        return found

    async def _materialise(self, body: bytes, scope: Scope) -> Reply:
        asked = _read(body, Materialise)
        options = parse_qs(scope["query_string"].decode("latin-1"))
        names = sorted(self._views) if asked.feature_views is None else asked.feature_views
        for name in names:
            self._view(name)
        if asked.disable_event_timestamp:
            raise InvalidInputError("disable_event_timestamp is not offered: every row has its own time")
        if asked.version is not None:
            raise InvalidInputError("version is not offered: views are materialised as the project declares them")
        is_async = options.get("async", [""])[-1].lower() in ("true", "1")
        try:
            job = self._jobs.start(names, asked.end_ts)
        except MaterialisationRunningError as error:
            return Reply(409, _encode({"error": error.message, "feature_views": names}))
        if is_async:
            return Reply(202, _encode({"status": "accepted", "feature_views": names}))
        await job
        return Reply(200, _NOTHING)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def refuse(error: FlyballError) -> Reply:
    """Return the answer to a request that is refused; what is the caller's fault is never a status above 499."""
    detail = f"{error.message}. {error.hint}" if error.hint else error.message
    is_last = isinstance(error, BodyTooLargeError | MediaTypeError | MethodNotAllowedError)
    body = _encode({"detail": detail, "code": error.code})
    return Reply(status_of(error).value, body, is_last=is_last, headers=allow_header(error))


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"the body does not fit: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BodyUnreadableError(str(error)) from error


async def _send(send: Send, reply: Reply) -> None:
    headers = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
    if reply.is_last:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": reply.is_last})
