"""Settings: one typed value, from arguments, the environment, ``flyball.toml`` and defaults, in this order."""

import math
import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from flyball.core.errors import InvalidInputError

FILE_NAME = "flyball.toml"
PROJECT_FILE = "project.py"
_ENVIRONMENT_PREFIX = "FLYBALL_"
# From where to where numbers make sense.
_LIMITS: dict[str, tuple[float, float]] = {
    "port": (1, 65_533),
    "grpc_port": (-1, 65_535),
    "workers": (0, 1_024),
    "gateway_processes": (0, 256),
    "gateway_stuck_seconds": (1, math.inf),
    "gateway_models_mb": (0, math.inf),
    "gateway_memory_mb": (50, math.inf),
    "gateway_timeout_seconds": (0, math.inf),
    "gateway_waiting": (1, math.inf),
    "max_body_bytes": (1, math.inf),
    "tick_seconds": (0.01, math.inf),
    "online_timeout_seconds": (0.001, math.inf),
}
# What 0 turns off.
_MAY_BE_OFF = {"gateway_stuck_seconds", "gateway_memory_mb"}
# Variables that belong to others under our prefix and are no settings.
_NOT_SETTINGS = {"FLYBALL_EXAMPLES_DATA", "FLYBALL_LIFELINE"}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set; what a project does not set has the default shown here.

    Attributes:
        host: Where ``flyball up`` listens; only loopback addresses until access control exists.
        port: The control plane's port; inference over HTTP is one above it.
        grpc_port: Where inference over gRPC listens; 0 means two above ``port``, -1 turns it off.
        workers: Processes that run a pipeline's steps; 0 means one for each core.
        gateway_processes: Processes that answer inference behind one address; 0 means one for each core.
        gateway_stuck_seconds: A process that answers nobody for so long, such as for a model that never returns, is
            ended and another takes its place; 0 lets it wait for ever.
        gateway_models_mb: So large may the files of the models be that a process holds in memory: the least recently
            used leave, and come back when they are asked; 0 keeps all.
        gateway_memory_mb: How much more memory a process may take than it has once its models are loaded: a model that
            wants more fails, and the others go on; 0 sets no limit.
        gateway_batching: Whether requests that wait for a slow model may share a call of it, where they gain by that.
        gateway_timeout_seconds: Who waited so long for a slow model is answered with status 504; 0 waits for ever.
        gateway_waiting: When so many requests to a process are not answered yet, more are refused with status 429.
        durable: What an answered prediction's record, and an answered write to the embedded online store, survives:
            ``kernel`` the end of any process, ``disk`` a power cut, too. Predictions that come together share the wait
            for the disk.
        max_body_bytes: A longer request body is refused unread.
        tick_seconds: How often the loop looks for something to do.
        log_format: How the gateway and the loop write their logs: ``text`` or ``json``.
        log_requests: Whether the gateway's log has a line for each request.
        otlp_endpoint: Where traces of requests go, such as ``http://localhost:4318``; needs ``flyball[otel]``.
        notifiers: Where alerts go, besides the journal: names of installed notifiers.
        webhooks: Addresses that the webhook notifier posts alerts to.
        webhooks_to_private_addresses: Whether clients of MLflow's registry may have webhooks posted to this machine and
            to private networks.
        users: Each user's roles, for approvals.
        online: Where the newest features of each entity are: ``lmdb`` in the home, ``lmdb:///folder``, or a Redis such
            as ``redis://localhost:6379/0?prefix=credit``, with ``flyball[redis]``. Projects on one server need a prefix
            each.
        online_timeout_seconds: How long a request waits for an online store on a server.
        online_fallback: What a request gets while the online store does not answer: ``refuse`` (status 503) or ``null``
            (features without a value, as of an entity never seen; counted).
        server: Where ``fb.run()`` logs to: the address of a ``flyball up``, such as ``http://127.0.0.1:3592``; empty
            for the project's own home, with nothing to start.
        engine: Where the features of training sets are computed: ``local``, or ``spark`` (needs ``flyball[spark]``).
        spark: Spark's own settings, such as ``"spark.master"``; by default those of its environment.
        database: Where metadata is kept, such as ``postgresql://USER:PASSWORD@HOST:PORT/NAME`` (needs
            ``flyball[postgresql]``); empty for a file of SQLite in the home.
    """

    host: str = "127.0.0.1"
    port: int = 3592
    grpc_port: int = 0
    workers: int = 0
    gateway_processes: int = 1
    gateway_stuck_seconds: float = 30.0
    gateway_models_mb: float = 0.0
    gateway_memory_mb: int = 0
    gateway_batching: bool = True
    gateway_timeout_seconds: float = 20.0
    gateway_waiting: int = 1_000
    durable: Literal["kernel", "disk"] = "kernel"
    max_body_bytes: int = 8_000_000
    tick_seconds: float = 1.0
    log_format: Literal["text", "json"] = "text"
    log_requests: bool = False
    otlp_endpoint: str = ""
    notifiers: list[str] = msgspec.field(default_factory=lambda: ["console"])
    webhooks: list[str] = msgspec.field(default_factory=list)
    webhooks_to_private_addresses: bool = False
    users: dict[str, list[str]] = msgspec.field(default_factory=dict)
    online: str = "lmdb"
    online_timeout_seconds: float = 0.25
    online_fallback: Literal["refuse", "null"] = "refuse"
    server: str = ""
    engine: Literal["local", "spark"] = "local"
    spark: dict[str, str] = msgspec.field(default_factory=dict)
    database: str = ""


class Sourced(msgspec.Struct, frozen=True):
    """A setting's value and where it came from."""

    name: str
    value: Any
    source: str


def has_project(folder: Path) -> bool:
    """Tell whether a folder declares a project; without one it can keep runs and versions of other programs."""
    return (folder / PROJECT_FILE).is_file()


def load_settings(
    project_dir: Path,
    arguments: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Settings, list[Sourced]]:
    """Read all settings of a project.

    Args:
        project_dir: The folder that may hold ``flyball.toml``.
        arguments: What was said on the command line; None values count as not said.
        environment: The process's environment by default.

    Returns:
        The settings, and for each the place it came from.

    Raises:
        InvalidInputError: A setting is unknown, has the wrong type or makes no sense; it is named with its place.
    """
    layers = [
        (FILE_NAME, _from_file(project_dir / FILE_NAME)),
        ("environment", _from_environment(os.environ if environment is None else environment)),
        ("argument", {name: value for name, value in (arguments or {}).items() if value is not None}),
    ]
    merged: dict[str, Any] = {}
    sources = dict.fromkeys(Settings.__struct_fields__, "default")
    for source, values in layers:
        _check(values, source)
        merged.update(values)
        sources.update(dict.fromkeys(values, source))
    settings = msgspec.convert(merged, Settings, strict=False)
    return settings, [Sourced(name, getattr(settings, name), sources[name]) for name in Settings.__struct_fields__]


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path.name} cannot be read: {error}") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(_ENVIRONMENT_PREFIX) or variable in _NOT_SETTINGS:
            continue
        name = variable.removeprefix(_ENVIRONMENT_PREFIX).lower()
        kind = Settings.__annotations__.get(name)
        is_list = kind is not None and "list" in str(kind)
        values[name] = [part.strip() for part in text.split(",") if part.strip()] if is_list else text
    return values


def _check(values: Mapping[str, Any], source: str) -> None:
    for name, value in values.items():
        if name not in Settings.__struct_fields__:
            close = get_close_matches(name, Settings.__struct_fields__, n=1)
            known = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(Settings.__struct_fields__)}"
            raise InvalidInputError(f"{name!r} in {source} is no setting of Flyball; {known}")
        kind: Any = Settings.__annotations__[name]
        choices = get_args(kind) if get_origin(kind) == Literal else ()
        if choices and value not in choices:
            raise InvalidInputError(
                f"the setting {name!r} in {source} must be one of {', '.join(map(repr, choices))}, but it is {value!r}"
            )
        try:
            read = msgspec.convert({name: value}, Settings, strict=source != "environment")
        except msgspec.ValidationError as error:
            raise InvalidInputError(f"the setting {name!r} in {source} is wrong: {error}") from error
        _check_number(name, getattr(read, name), source)


def _check_number(name: str, value: Any, source: str) -> None:
    least, most = _LIMITS.get(name, (-math.inf, math.inf))
    is_off = name in _MAY_BE_OFF and value == 0
    if name in _LIMITS and not is_off and not least <= value <= most:
        wanted = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        off = "0 or " if name in _MAY_BE_OFF else ""
        raise InvalidInputError(f"the setting {name!r} in {source} must be {off}{wanted}, but it is {value}")
