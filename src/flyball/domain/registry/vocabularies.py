"""What searches of the registry may speak of."""

from flyball.domain.tracking.filters import KEYED_OPERATORS, NUMBER_OPERATORS, TEXT_OPERATORS, Entity, Kind, Vocabulary

_ATTRIBUTES = ("attribute", "attributes", "attr")
_TAG = Entity(name="tag", kind=Kind.TEXT, operators=KEYED_OPERATORS)
_PARAM = Entity(name="param", kind=Kind.TEXT, operators=KEYED_OPERATORS)
_METRIC = Entity(name="metric", kind=Kind.NUMBER, operators=NUMBER_OPERATORS)
_TIMES = {
    "creation_timestamp": "created",
    "creation_time": "created",
    "last_updated_timestamp": "updated",
    "last_updated_time": "updated",
    "timestamp": "updated",
}

_MODEL = Entity(
    name="attribute",
    kind=Kind.TEXT,
    operators=TEXT_OPERATORS,
    keys={"name": "name"} | _TIMES,
    numbers=frozenset({"created", "updated"}),
)
MODELS = Vocabulary(
    entities={**dict.fromkeys(_ATTRIBUTES, _MODEL), **dict.fromkeys(("tag", "tags"), _TAG)},
    default=_MODEL,
    orderable=frozenset({"name", "created", "updated"}),
)

_VERSION = Entity(
    name="attribute",
    kind=Kind.TEXT,
    operators=TEXT_OPERATORS,
    keys={name: name for name in ("name", "run_id", "source_path", "version_number")}
    | {"version": "version_number", "source": "source_path", "model_id": "model_id"}
    | _TIMES,
    numbers=frozenset({"version_number", "created", "updated"}),
)
VERSIONS = Vocabulary(
    entities={**dict.fromkeys(_ATTRIBUTES, _VERSION), **dict.fromkeys(("tag", "tags"), _TAG)},
    default=_VERSION,
    orderable=frozenset({"name", "version_number", "created", "updated"}),
)

_LOGGED = Entity(
    name="attribute",
    kind=Kind.TEXT,
    operators=TEXT_OPERATORS,
    keys={name: name for name in ("name", "model_id", "model_type", "status", "source_run_id")}
    | _TIMES
    | {"creation_timestamp_ms": "created", "last_updated_timestamp_ms": "updated"},
    numbers=frozenset({"created", "updated"}),
)
LOGGED_MODELS = Vocabulary(
    entities={
        **dict.fromkeys(_ATTRIBUTES, _LOGGED),
        **dict.fromkeys(("metric", "metrics"), _METRIC),
        **dict.fromkeys(("param", "params", "parameter", "parameters"), _PARAM),
        **dict.fromkeys(("tag", "tags"), _TAG),
    },
    default=_LOGGED,
    orderable=frozenset({"name", "model_id", "model_type", "status", "source_run_id", "created", "updated"}),
)
