"""What searches of runs and of experiments may speak of."""

from flyball.domain.tracking.filters import KEYED_OPERATORS, NUMBER_OPERATORS, TEXT_OPERATORS, Entity, Kind, Vocabulary

_RUN = Entity(
    name="attribute",
    kind=Kind.TEXT,
    operators=TEXT_OPERATORS,
    keys={name: name for name in ("run_id", "run_name", "user_id", "status", "artifact_uri", "start_time", "end_time")}
    | {"created": "start_time", "Created": "start_time"}
    | {"run name": "run_name", "Run name": "run_name", "Run Name": "run_name"},
    numbers=frozenset({"start_time", "end_time"}),
    lists=frozenset({"run_id"}),
)
_METRIC = Entity(name="metric", kind=Kind.NUMBER, operators=NUMBER_OPERATORS)
_PARAM = Entity(name="param", kind=Kind.TEXT, operators=KEYED_OPERATORS)
_TAG = Entity(name="tag", kind=Kind.TEXT, operators=KEYED_OPERATORS)
_DATASET = Entity(
    name="dataset",
    kind=Kind.TEXT,
    operators=TEXT_OPERATORS,
    keys={name: name for name in ("name", "digest", "context")},
)

RUNS = Vocabulary(
    entities={
        **dict.fromkeys(("attribute", "attributes", "attr", "run"), _RUN),
        **dict.fromkeys(("metric", "metrics"), _METRIC),
        **dict.fromkeys(("param", "params", "parameter", "parameters"), _PARAM),
        **dict.fromkeys(("tag", "tags"), _TAG),
        **dict.fromkeys(("dataset", "datasets"), _DATASET),
    },
    default=_RUN,
    orderable=frozenset({"run_id", "run_name", "user_id", "status", "artifact_uri", "start_time", "end_time"}),
)

_EXPERIMENT = Entity(
    name="attribute",
    kind=Kind.TEXT,
    operators=TEXT_OPERATORS,
    keys={name: name for name in ("name", "experiment_id", "creation_time", "last_update_time")},
    numbers=frozenset({"creation_time", "last_update_time"}),
)

EXPERIMENTS = Vocabulary(
    entities={
        **dict.fromkeys(("attribute", "attributes", "attr"), _EXPERIMENT),
        **dict.fromkeys(("tag", "tags"), _TAG),
    },
    default=_EXPERIMENT,
    orderable=frozenset({"name", "experiment_id", "creation_time", "last_update_time"}),
)
