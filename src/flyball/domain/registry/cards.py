"""The pages of a package for people and for MLflow: the model card and the ``MLmodel`` file."""

import platform
from collections.abc import Mapping, Sequence

import msgspec

from flyball.core.durations import format_duration, from_us
from flyball.core.encoding import to_json
from flyball.domain.data.rules import Rule
from flyball.domain.registry.gates import ModelGates
from flyball.domain.registry.packages import FeaturePlan, Manifest
from flyball.domain.registry.signatures import Signature

_EPOCH = from_us(0)
# MLflow's names of types: https://mlflow.org/docs/latest/ml/model/signatures
_MLFLOW_TYPES = {
    "int": "long",
    "float": "double",
    "string": "string",
    "bool": "boolean",
    "datetime": "datetime",
    "date": "datetime",
}


class CardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model card tells, beside what other files of the package hold.

    Attributes:
        description: What the author said of the model.
        rows: How many rows it was trained on.
        lineage: Where those came from, by kind.
        metrics: How it did.
        plan: What it must meet.
    """

    description: str
    rows: int
    lineage: Mapping[str, str]
    metrics: Mapping[str, float]
    plan: ModelGates


def write_card(
    manifest: Manifest, signature: Signature, features: FeaturePlan, rules: Sequence[Rule], facts: CardFacts
) -> str:
    """Return the model card in Markdown; the same package always has the same card."""
    label = f"{facts.lineage.get('label', signature.label)}"
    sections = [
        f"# {manifest.model}",
        facts.description or f"A {signature.task} model of `{label}`.",
        "## What it is",
        _list(
            [
                f"Model: `{manifest.kind}`, a {signature.task} model",
                f"Answers with {signature.output}",
                f"Served as {_served_form(manifest)}",
                f"Label: `{label}`",
            ]
        ),
        "## Data",
        _list([f"Trained on {facts.rows:,} rows", *(f"{key}: {value}" for key, value in facts.lineage.items())]),
        "## Features",
        _table(("feature", "type", "may be missing"), _feature_rows(signature)),
        _list(_feature_sources(features)),
        "## How it did",
        _table(("metric", "value"), [(metric, f"{value:.6g}") for metric, value in sorted(facts.metrics.items())]),
        "## What it must meet before it goes live",
        _list([gate.name for gate in facts.plan.gates] or ["no gates are declared"]),
        f"Approval: {facts.plan.approval}.",
        "## Limits",
        _list(_limits(rules)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _served_form(manifest: Manifest) -> str:
    onnx = manifest.onnx
    if onnx.is_proven and onnx.is_served:
        return f"ONNX, where ONNX Runtime is installed ({onnx.reason})"
    return f"it was kept, by the runtime {manifest.runtime} ({onnx.reason})"


def write_mlmodel(manifest: Manifest, signature: Signature, versions: Mapping[str, str]) -> bytes:
    """Return the ``MLmodel`` file, in JSON, which is YAML too.

    A scikit-learn package loads as MLflow's flavours ``sklearn`` and ``python_function`` without Flyball. Of every
    other kind MLflow calls Flyball's loader, which answers as an endpoint does.
    """
    python = platform.python_version()
    flavors: dict[str, dict[str, object]] = {}
    if manifest.runtime == "sklearn":
        flavors["sklearn"] = {
            "pickled_model": "model/model.pkl",
            "serialization_format": "cloudpickle",
            "sklearn_version": versions.get("scikit-learn", ""),
        }
        flavors["python_function"] = {
            "loader_module": "mlflow.sklearn",
            "model_path": "model/model.pkl",
            "predict_fn": "predict" if signature.task == "regression" else "predict_proba",
            "python_version": python,
        }
    else:
        flavors["python_function"] = {"loader_module": "flyball.runtimes.mlflow", "python_version": python}
    inputs = [
        {"name": field.name, "type": _MLFLOW_TYPES[field.dtype], "required": not field.nullable}
        for field in signature.features.fields
    ]
    shape = [-1, len(signature.classes)] if signature.classes else [-1]
    outputs = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": shape}}]
    return to_json(
        {
            "flavors": flavors,
            "signature": {"inputs": to_json(inputs).decode(), "outputs": to_json(outputs).decode(), "params": None},
        },
        indent=2,
    )


def _feature_rows(signature: Signature) -> list[tuple[str, str, str]]:
    return [(f"`{field.name}`", field.dtype, "yes" if field.nullable else "no") for field in signature.features.fields]


def _feature_sources(features: FeaturePlan) -> list[str]:
    views = [
        f"Feature view `{view.name}` by {', '.join(view.keys)}"
        + (f", at most {format_duration(from_us(view.ttl_us) - _EPOCH)} old" if view.ttl_us else "")
        for view in features.views
    ]
    return [*views, *(f"Computed from the request: `{name}`" for name in features.request_features)]


def _limits(rules: Sequence[Rule]) -> list[str]:
    demands = [f"`{rule.column}` {rule.demand}" if rule.column else f"the table {rule.demand}" for rule in rules]
    return [
        *(demands or ["the table declares no expectations, so any value of the right type is answered"]),
        "it knows the world as it was in its training data; `profile.json` holds the distributions to watch",
    ]


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
