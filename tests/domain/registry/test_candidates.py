"""From a pipeline's last node to a judged version, with real models and the champion on the same data."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from tests.domain.registry.projects import Context, make_rows, make_training_set

from flyball.core.errors import InvalidInputError
from flyball.domain.features.training_sets import TrainingSet
from flyball.domain.pipelines.steps import pipeline, step
from flyball.domain.registry.candidates import candidate
from flyball.domain.registry.evidence import MetricMissingError, MetricsInvalidError
from flyball.domain.registry.gates import ModelGates, latency, metric, not_worse_than_champion
from flyball.domain.registry.versions import Status, VersionRef

NOT_WORSE = ModelGates(gates=(not_worse_than_champion("auc", by=0.005),))
world: dict[str, Any] = {}
"""What the steps of a test look at; emptied before each."""


@pytest.fixture(autouse=True)
def fresh_world() -> None:
    world.clear()
    world.update(features=("income", "age"), seed=3, learns_nothing=False, calls=[])


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path)


@step
def load() -> tuple[TrainingSet, TrainingSet]:
    frame = make_rows(seed=world["seed"])
    features = world["features"]
    return (
        make_training_set(frame[:450], features, part="all but last 25%"),
        make_training_set(frame[450:], features, part="last 25%"),
    )


@step
def train(data: TrainingSet) -> Any:
    labels = data.y.shuffle(seed=1) if world["learns_nothing"] else data.y
    return LogisticRegression(max_iter=1000).fit(data.X, labels)


@step
def evaluate(model: Any, data: TrainingSet, threshold: float = 0.5) -> dict[str, float]:
    world["calls"].append((model, data, threshold))
    scores = model.predict_proba(data.X)[:, 1]
    return {
        "auc": float(roc_auc_score(data.y, scores)),
        "accuracy": float(((scores > threshold) == data.y.to_numpy()).mean()),
    }


@pipeline
def training() -> Any:
    fit, held_out = load()
    model = train(fit)
    return candidate("credit-risk", model, metrics=evaluate(model, held_out), data=fit, description="Who defaults?")


def test_a_run_makes_a_version_with_its_lineage(context: Context) -> None:
    version = context.run(training)
    assert (version.ref, version.status, version.run_id) == ("credit-risk/1", Status.APPROVED, "run-1")
    assert version.created_by == "run/run-1"
    assert set(version.metrics) == {"auc", "accuracy"}
    assert version.lineage["snapshots"]["applications"] == "a" * 64
    assert version.description == "Who defaults?"
    standing = ("standing", "credit-risk/1 is approved")
    assert context.notes == [("version", VersionRef("credit-risk/1")), standing]
    assert context.registry.get("credit-risk/1") == version


def test_the_package_knows_how_a_request_becomes_features(context: Context) -> None:
    package = context.registry.open(context.run(training).ref)
    plan = package.features
    assert (plan.spine, plan.keys, plan.time) == ("applications", ("customer_id",), "applied_at")
    (view,) = plan.views
    assert (view.name, view.version, view.keys) == ("payment_behaviour", "v1", ("customer_id",))
    assert view.ttl_us == 180 * 86_400_000_000
    assert plan.request_features == ("affordability",)
    assert plan.features == ("income", "age")
    assert plan.label is not None
    assert plan.request.names == ["customer_id", "income"]
    assert len(package.expectations) == 2
    assert package.profile.is_held_out
    assert "Who defaults?" in (package.path / "card.md").read_text()
    assert package.load_predictor(context.runtimes).predict(make_rows(5)).shape == (5,)


def test_the_champion_is_put_to_the_same_test_on_the_same_data(context: Context) -> None:
    context.set_gates({"credit-risk": NOT_WORSE})
    first = context.run(training)
    context.registry.set_alias("credit-risk", "champion", first.ref, reason="first")
    world.update(seed=4, learns_nothing=True)
    world["calls"].clear()
    second = context.run(training)
    (own_model, own_data, _), (old_model, old_data, threshold) = world["calls"]
    assert own_data is old_data
    assert own_model is not old_model
    assert threshold == 0.5
    evidence = context.registry.evidence(second.ref)
    assert evidence is not None
    assert evidence.comparison is not None
    assert evidence.comparison.is_same_data
    assert evidence.comparison.metrics["auc"] == roc_auc_score(old_data.y, old_model.predict_proba(old_data.X)[:, 1])
    assert evidence.comparison.metrics != first.metrics
    assert second.status is Status.REJECTED
    assert f"the champion credit-risk/1 has {evidence.comparison.metrics['auc']:.6g} on the same data" in (
        evidence.results[0].reason
    )


def test_a_champion_of_fewer_features_sees_only_those(context: Context) -> None:
    context.set_gates({"credit-risk": NOT_WORSE})
    world["features"] = ("age",)
    first = context.run(age_only)
    context.registry.set_alias("credit-risk", "champion", first.ref, reason="first")
    world.update(features=("income", "age"))
    second = context.run(training)
    evidence = context.registry.evidence(second.ref)
    assert evidence is not None
    assert evidence.comparison is not None
    assert evidence.comparison.is_same_data
    assert second.status is Status.APPROVED


@step
def train_on_age(data: TrainingSet) -> Any:
    return LogisticRegression().fit(data.X, data.y)


@pipeline
def age_only() -> Any:
    fit, held_out = load()
    model = train_on_age(fit)
    return candidate("credit-risk", model, metrics=evaluate(model, held_out), data=fit)


def test_a_champion_that_cannot_see_todays_data_is_compared_by_its_own_evaluation(context: Context) -> None:
    context.set_gates({"credit-risk": NOT_WORSE})
    first = context.run(training)
    context.registry.set_alias("credit-risk", "champion", first.ref, reason="first")
    world["features"] = ("age",)
    load_without_income = load.function

    def load_less() -> Any:
        return tuple(TrainingSet(part.frame.drop("income"), part.facts) for part in load_without_income())

    load.function = load_less
    try:
        second = context.run(age_only)
    finally:
        load.function = load_without_income
    evidence = context.registry.evidence(second.ref)
    assert evidence is not None
    assert evidence.comparison is not None
    assert not evidence.comparison.is_same_data
    assert evidence.comparison.metrics == first.metrics
    assert "needs the features income, which the data no longer has" in evidence.comparison.note
    assert second.status is Status.REJECTED


@step
def train_and_measure(data: TrainingSet) -> tuple[Any, dict[str, float]]:
    model = LogisticRegression(max_iter=1000).fit(data.X, data.y)
    return model, {"auc": 0.8}


@pipeline
def at_once() -> Any:
    fit, _ = load()
    model, metrics = train_and_measure(fit)
    return candidate("credit-risk", model, metrics=metrics, data=fit)


def test_metrics_of_no_step_that_takes_the_model_are_compared_as_they_are(context: Context) -> None:
    context.set_gates({"credit-risk": NOT_WORSE})
    first = context.run(at_once)
    context.registry.set_alias("credit-risk", "champion", first.ref, reason="first")
    evidence = context.registry.evidence(context.run(at_once).ref)
    assert evidence is not None
    assert evidence.comparison is not None
    assert evidence.comparison.note == "no step computes the metrics from the model"
    assert evidence.passed


def test_the_latency_of_single_rows_is_measured_and_kept(context: Context) -> None:
    context.set_gates({"credit-risk": ModelGates(gates=(latency(p99="5s", p50="1us"),))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        version = context.run(training)
    evidence = context.registry.evidence(version.ref)
    assert evidence is not None
    assert evidence.latency is not None
    assert 0 < evidence.latency.p50_s <= evidence.latency.p99_s < 5
    assert evidence.latency.rows == 100
    assert [result.passed for result in evidence.results] == [False, True]


def test_a_role_of_the_plan_must_approve(context: Context) -> None:
    context.set_gates({"credit-risk": ModelGates(gates=(metric("auc") >= 0.5,), approval="risk-officer")})
    version = context.run(training)
    assert version.status is Status.AWAITING_APPROVAL
    assert context.registry.approve(version.ref, "ana").status is Status.APPROVED


@step
def train_price(data: TrainingSet) -> LinearRegression:
    return LinearRegression().fit(data.X, data.y)


@step
def prices() -> TrainingSet:
    return make_training_set(features=("income", "age"), label="price")


@step
def price_error(model: LinearRegression, data: TrainingSet) -> dict[str, float]:
    return {"rmse": float(np.sqrt(((model.predict(data.X) - data.y.to_numpy()) ** 2).mean()))}


@pipeline
def pricing() -> Any:
    data = prices()
    model = train_price(data)
    return candidate("price", model, metrics=price_error(model, data), data=data)


def test_a_regression_is_judged_by_its_error(context: Context) -> None:
    context.set_gates({"price": ModelGates(gates=(metric("rmse") <= 1.0, not_worse_than_champion("rmse", by="5%")))})
    first = context.run(pricing)
    context.registry.set_alias("price", "champion", first.ref, reason="first")
    assert context.run(pricing).status is Status.APPROVED
    assert context.registry.open("price/2").signature.task == "regression"


# What is refused, with nothing registered


def bad_metrics(value: Any) -> Any:
    @step
    def measure(model: Any, data: TrainingSet) -> Any:
        return value

    @pipeline
    def bad() -> Any:
        fit, held_out = load()
        model = train(fit)
        return candidate("credit-risk", model, metrics=measure(model, held_out), data=fit)

    return bad


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"auc": float("nan")}, "'auc' is nan, which is not finite"),
        ({"auc": "high"}, "'auc' is 'high', which is not a number"),
        (0.8, "they are a float and not a dict"),
        (None, "they are a NoneType and not a dict"),
    ],
)
def test_metrics_that_are_no_figures_are_refused(context: Context, value: Any, words: str) -> None:
    with pytest.raises(MetricsInvalidError, match=words):
        context.run(bad_metrics(value))
    assert context.registry.list_models() == []


def test_a_gate_on_a_metric_that_no_step_produced_is_refused_before_anything_is_written(context: Context) -> None:
    context.set_gates({"credit-risk": ModelGates(gates=(metric("f1") >= 0.5,))})
    with pytest.raises(MetricMissingError, match="the metrics are accuracy, auc"):
        context.run(training)
    assert context.registry.list_models() == []
    assert not context.registry.packages_root.exists()


@pipeline
def wrong_data() -> Any:
    fit, held_out = load()
    model = train(fit)
    metrics = evaluate(model, held_out)
    return candidate("credit-risk", model, metrics=metrics, data=metrics)


def test_data_that_is_no_training_set_is_refused(context: Context) -> None:
    with pytest.raises(InvalidInputError, match="was given a dict as data"):
        context.run(wrong_data)


@pipeline
def bad_name() -> Any:
    fit, held_out = load()
    model = train(fit)
    return candidate("credit/risk", model, metrics=evaluate(model, held_out), data=fit)


def test_a_name_that_cannot_be_used_is_refused_while_the_pipeline_is_drawn(context: Context) -> None:
    with pytest.raises(InvalidInputError, match="'credit/risk' is not a name for a model"):
        context.run(bad_name)


def test_a_candidate_outside_a_pipeline_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="outside a pipeline"):
        candidate("credit-risk", object(), metrics={}, data=None)


def test_gates_are_part_of_what_the_cache_knows(context: Context) -> None:
    from flyball.domain.registry.candidates import CandidateOperation

    operation = CandidateOperation("credit-risk", "", None)
    before = operation.identity(context)
    assert operation.identity(context) == before
    context.set_gates({"credit-risk": NOT_WORSE})
    assert operation.identity(context) != before
