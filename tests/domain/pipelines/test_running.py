"""A run from its start to its end, and what is known of it afterwards."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.domain.data.recording import OperationContext, record
from flyball.domain.pipelines.results import RunResult, StepResult
from flyball.domain.pipelines.steps import pipeline, step
from flyball.domain.tracking.logging import log_artifact, log_metric, set_tag
from flyball.domain.tracking.runs import RunStatus

from .lab import Lab, statuses, step_of

HERE = Path(__file__)


@step
def numbers(count: int = 3) -> list[int]:
    return list(range(count))


@step
def total(values: list[int]) -> int:
    return sum(values)


def fails_while(marker: Path) -> Any:
    """Return a step that fails while a file exists whose name nobody tells the cache."""
    names = [part for part in marker.parts if part != "/"]

    @step
    def delicate(values: list[int]) -> int:
        if Path("/").joinpath(*names).exists():
            raise ValueError("the moon is in the wrong house")
        return len(values)

    return delicate


def test_a_run_returns_what_the_pipeline_returns(lab: Lab) -> None:
    @pipeline
    def whole() -> Any:
        values = numbers()
        return total(values), values

    result = lab.pipelines.run(whole)
    assert result.status is RunStatus.SUCCEEDED
    assert lab.pipelines.load(result, "total") == 3
    assert lab.pipelines.load(result, "numbers") == [0, 1, 2]
    with pytest.raises(NotFoundError, match="it returned total, numbers"):
        lab.pipelines.load(result)
    assert lab.pipelines.list_steps(result.run_id) == result.steps


def test_several_results_are_unpacked_or_kept_together(lab: Lab) -> None:
    @step
    def both() -> tuple[int, str]:
        return 1, "a"

    @step
    def show(pair: tuple[int, str], text: str) -> str:
        return f"{pair} {text}"

    @pipeline
    def whole() -> Any:
        pair = both()
        _, text = pair
        return show(pair, text), pair

    result = lab.pipelines.run(whole)
    assert lab.pipelines.load(result, "show") == "(1, 'a') a"
    assert lab.pipelines.load(result, "both") == (1, "a")


def test_nodes_inside_of_lists_and_dicts_are_filled_in(lab: Lab) -> None:
    @step
    def show(parts: dict[str, list[int]], *more: int, **named: int) -> str:
        return f"{parts} {more} {named}"

    @pipeline
    def whole() -> Any:
        return show({"a": [total(numbers()), 7]}, total(numbers(2)), 5, last=total(numbers(4)))

    result = lab.pipelines.run(whole)
    assert lab.pipelines.load(result) == "{'a': [3, 7]} (1, 5) {'last': 6}"


def test_a_failure_fails_the_run_but_not_what_does_not_need_it(lab: Lab, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    delicate = fails_while(marker)

    @pipeline
    def whole() -> Any:
        values = numbers()
        return total(values), total([delicate(values)])

    result = lab.pipelines.run(whole)
    assert result.status is RunStatus.FAILED
    assert statuses(result) == {"numbers": "ran", "total": "ran", "delicate": "failed", "total_2": "skipped"}
    assert step_of(result, "total_2").reason == "it needs delicate, which failed"
    assert result.error == "step delicate: ValueError: the moon is in the wrong house"
    assert lab.tracking.get_run(result.run_id).error == result.error
    assert result.outputs == {}

    again = lab.pipelines.run(whole)
    assert step_of(again, "delicate").reason == f"failed in run {result.run_id}"

    marker.unlink()
    resumed = lab.pipelines.run(whole)
    assert statuses(resumed) == {"numbers": "cached", "total": "cached", "delicate": "ran", "total_2": "ran"}
    assert resumed.status is RunStatus.SUCCEEDED


def test_the_traceback_is_shown_without_the_machinery(tmp_path: Path) -> None:
    lab = Lab(tmp_path)

    @step
    def divide(by: int) -> float:
        return 1 / by

    @pipeline
    def whole() -> Any:
        return divide(0)

    failed = step_of(lab.pipelines.run(whole), "divide")
    assert failed.error.startswith("ZeroDivisionError: division by zero\n")
    assert "return 1 / by" in failed.error
    assert "work.py" not in failed.error
    assert "work.py" in failed.traceback


def test_a_step_is_tried_again_and_no_more_often_than_allowed(lab: Lab, tmp_path: Path) -> None:
    marker = tmp_path / "tries"
    marker.write_text("")
    names = list(marker.parts[1:])

    @step(retries=2, backoff="1ms")
    def flaky(luck: int) -> int:
        tries = Path("/").joinpath(*names)
        tries.write_text(tries.read_text() + "x")
        if len(tries.read_text()) < luck:
            raise OSError("not yet")
        return luck

    @pipeline
    def whole(luck: int = 3) -> Any:
        return flaky(luck)

    result = lab.pipelines.run(whole)
    assert (result.status, step_of(result, "flaky").attempts) == (RunStatus.SUCCEEDED, 3)
    marker.write_text("")
    result = lab.pipelines.run(whole, {"luck": 4})
    assert (result.status, step_of(result, "flaky").attempts) == (RunStatus.FAILED, 3)
    assert "not yet" in result.error


def test_even_an_exit_is_a_failure(lab: Lab) -> None:
    @step
    def leave() -> int:
        raise SystemExit(0)

    @pipeline
    def whole() -> Any:
        return leave()

    assert step_of(lab.pipelines.run(whole), "leave").error.startswith("SystemExit: 0")


def test_a_result_that_belies_its_annotation_is_refused(lab: Lab) -> None:
    @step
    def lie() -> int:
        return "text"  # type: ignore[return-value]

    @pipeline
    def whole() -> Any:
        return lie()

    error = step_of(lab.pipelines.run(whole), "lie").error
    assert "step 'lie' is annotated to return int, but returned 'text' (str)" in error
    assert "hint:" in error


def test_a_value_known_only_while_running_is_checked_too(lab: Lab) -> None:
    @step
    def anything() -> Any:
        return "text"

    @pipeline
    def whole() -> Any:
        return total(anything())

    error = step_of(lab.pipelines.run(whole), "total").error
    assert "step 'total': parameter 'values' expects list[int], but is given 'text' (str)" in error


def test_what_cannot_be_kept_fails_the_step(lab: Lab) -> None:
    @step
    def lines() -> Any:
        return (number for number in range(3))

    @pipeline
    def whole() -> Any:
        return lines()

    assert "step 'lines' returns a generator, which cannot be kept" in step_of(lab.pipelines.run(whole), "lines").error


def test_the_same_work_is_done_once(lab: Lab) -> None:
    @pipeline
    def whole() -> Any:
        return [total(numbers(5)), total(numbers(5))]

    result = lab.pipelines.run(whole)
    assert statuses(result) == {"numbers": "ran", "total": "ran", "numbers_2": "cached", "total_2": "cached"}
    assert lab.pipelines.load(result, "total_2") == 10


def test_a_refused_pipeline_leaves_no_run(lab: Lab) -> None:
    @pipeline
    def whole() -> Any:
        return total("text")  # type: ignore[arg-type]

    with pytest.raises(InvalidInputError):
        lab.pipelines.run(whole)
    assert lab.tracking.list_runs() == []
    assert lab.journal.head() == 0


class TestWhatIsLogged:
    @pytest.fixture
    def result(self, lab: Lab) -> RunResult:
        @step
        def fit(rows: int = 2, rate: float = 0.5) -> dict[str, float]:
            for epoch in range(rows):
                log_metric("loss", rate / (epoch + 1), step=epoch)
            log_artifact("note.txt", "fine")
            set_tag("team", "risk")
            return {"auc": 0.7, "gain": math.nan}

        @pipeline
        def whole() -> Any:
            return fit()

        lab.pipelines.run(whole)
        return lab.pipelines.run(whole, actor="user/ana", cause=1)

    def test_a_cached_run_knows_what_a_fresh_one_does(self, lab: Lab, result: RunResult) -> None:
        assert statuses(result) == {"fit": "cached"}
        detail = lab.tracking.describe_run(result.run_id)
        assert detail.params == {"fit.rows": 2, "fit.rate": 0.5}
        assert detail.metrics["auc"] == 0.7
        assert math.isnan(detail.metrics["gain"])
        assert [(point.step, point.value) for point in lab.tracking.list_points(result.run_id, "loss")] == [
            (0, 0.5),
            (1, 0.25),
        ]
        assert [artifact.name for artifact in detail.artifacts] == ["note.txt"]
        assert lab.blobs.path(detail.artifacts[0].digest).read_text() == "fine"
        assert detail.tags == {"team": "risk"}

    def test_the_run_says_where_and_by_whom(self, lab: Lab, result: RunResult) -> None:
        run = lab.tracking.get_run(result.run_id)
        assert (run.actor, run.cause, run.status) == ("user/ana", 1, RunStatus.SUCCEEDED)
        assert run.facts is not None
        assert "msgspec==" in lab.blobs.path(run.facts.environment).read_text()
        assert run.facts.machine["cores"]

    def test_start_and_end_are_events(self, lab: Lab, result: RunResult) -> None:
        events = lab.journal.list_events(subject=f"run/{result.run_id}")
        assert [event.kind for event in events] == ["pipelines.run.started", "pipelines.run.finished"]
        assert {event.cause for event in events} == {1}
        assert {event.actor for event in events} == {"user/ana"}
        assert lab.journal.verify().broken_at is None


def test_logging_outside_a_step_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="log_metric was called outside a step"):
        log_metric("loss", 0.1)


def test_metrics_of_a_step_used_twice_carry_its_name(lab: Lab) -> None:
    @step
    def score(rows: int) -> dict[str, float]:
        return {"auc": rows / 10}

    @pipeline
    def whole() -> Any:
        return score(1), score(2)

    detail = lab.tracking.describe_run(lab.pipelines.run(whole).run_id)
    assert detail.metrics == {"score.auc": 0.1, "score_2.auc": 0.2}


class Counter:
    """A service that an operation uses."""

    def __init__(self) -> None:
        self.state = "a"
        self.runs = 0


class Making:
    """An operation that makes something, once for each state and input."""

    name = "make"
    outputs = 2

    def identity(self, context: OperationContext) -> str:
        return context.service(Counter).state

    def run(self, context: OperationContext, inputs: Mapping[str, Any]) -> Any:
        context.service(Counter).runs += 1
        context.note("version", f"model/{context.service(Counter).runs}")
        context.note("snapshot", {"table": "rows", "snapshot": "s1"})
        return inputs["value"] + 1, context.actor


class TestOperations:
    @staticmethod
    @pipeline
    def whole(count: int = 3) -> Any:
        made, _ = record(Making(), {"value": total(numbers(count)), "option": "x"})
        return total([made])

    @pytest.fixture
    def counter(self, lab: Lab) -> Counter:
        counter = Counter()
        lab.services[Counter] = counter
        return counter

    def test_an_operation_is_a_step_like_others(self, lab: Lab, counter: Counter) -> None:
        result = lab.pipelines.run(self.whole)
        assert lab.pipelines.load(result) == 4
        assert result.notes == {"version": ["model/1"], "snapshot": [{"table": "rows", "snapshot": "s1"}]}
        detail = lab.tracking.describe_run(result.run_id)
        assert [(link.kind, link.ref) for link in detail.inputs] == [("snapshot", "s1")]
        assert [(link.kind, link.ref) for link in detail.outputs] == [("version", "model/1")]

    def test_what_it_made_is_not_made_again(self, lab: Lab, counter: Counter) -> None:
        first = lab.pipelines.run(self.whole)
        again = lab.pipelines.run(self.whole)
        assert counter.runs == 1
        assert step_of(again, "make").reason == f"cached since run {first.run_id}"
        assert again.notes == first.notes
        assert lab.tracking.list_runs_that_made("version", "model/1") == [first.run_id, again.run_id]

    def test_another_identity_or_input_makes_it_run(self, lab: Lab, counter: Counter) -> None:
        lab.pipelines.run(self.whole)
        counter.state = "b"
        assert step_of(lab.pipelines.run(self.whole), "make").reason == "the data or declarations it reads changed"
        changed = lab.pipelines.run(self.whole, {"count": 5})
        assert step_of(changed, "make").reason == "input data changed: value (from total)"
        other = lab.pipelines.run(self.whole, {"count": 5, "make.option": "y"})
        assert step_of(other, "make").reason == 'parameter option "x" → "y"'
        assert counter.runs == 4

    def test_a_missing_service_is_told(self, lab: Lab) -> None:
        assert "an operation needs Counter" in step_of(lab.pipelines.run(self.whole), "make").error


class Told:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def planned(self, run_id: str, steps: Any) -> None:
        self.lines.append(f"planned {' '.join(steps)}")

    def started(self, step: str) -> None:
        self.lines.append(f"started {step}")

    def finished(self, result: StepResult) -> None:
        self.lines.append(f"{result.status} {result.name}")


def test_progress_is_told_in_order(lab: Lab) -> None:
    @pipeline
    def whole() -> Any:
        return total(numbers())

    told = Told()
    lab.pipelines.run(whole, progress=told)
    assert told.lines == [
        "planned numbers total",
        "started numbers",
        "ran numbers",
        "started total",
        "ran total",
    ]
    told = Told()
    lab.pipelines.run(whole, progress=told)
    assert told.lines == ["planned numbers total", "cached numbers", "cached total"]


def test_a_run_whose_process_died_is_closed_by_the_next(lab: Lab) -> None:
    lost = lab.tracking.start_run("whole")
    with lab.db.begin() as tx:
        tx.execute("UPDATE tracking_run SET process = replace(process, ' ', ' 9') WHERE id = ?", (lost.id,))

    @pipeline
    def whole() -> Any:
        return numbers()

    lab.pipelines.run(whole)
    run = lab.tracking.get_run(lost.id)
    assert (run.status, run.error) == (RunStatus.FAILED, "its process ended before the run did")
