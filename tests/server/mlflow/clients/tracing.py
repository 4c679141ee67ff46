"""Everything that the unmodified client does with traces: ``tracing.py URL``. It only asserts."""

import contextlib
import os
import sys

os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
}

import mlflow
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Feedback, SpanType
from mlflow.exceptions import MlflowException

mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
place = mlflow.set_experiment("traced").experiment_id


@mlflow.trace(span_type=SpanType.TOOL)
def look_up(word: str) -> str:
    return word.upper()


@mlflow.trace(name="answer", span_type=SpanType.CHAIN)
def answer(question: str) -> dict[str, object]:
    mlflow.update_current_trace(tags={"kind": "ünï 🎯"}, metadata={"release": "7"})
    if question == "bad":
        raise ValueError("no answer")
    return {"text": look_up(question), "sizes": [1, 2.5, None, True], "deep": {"a": {"b": "c"}}}


def ask(question: str) -> str:
    with contextlib.suppress(ValueError):
        answer(question)
    return mlflow.get_last_active_trace_id()


def told_and_read() -> None:
    trace = mlflow.get_trace(ask("what"))
    assert trace.info.state == "OK" and trace.info.execution_duration is not None
    assert trace.info.tags["kind"] == "ünï 🎯" and trace.info.trace_metadata["release"] == "7"
    root, tool = trace.data.spans
    assert (root.name, root.span_type, root.parent_id) == ("answer", "CHAIN", None)
    assert root.inputs == {"question": "what"} and root.outputs["sizes"] == [1, 2.5, None, True]
    assert root.outputs["deep"] == {"a": {"b": "c"}}
    assert (tool.parent_id, tool.outputs, tool.status.status_code) == (root.span_id, "WHAT", "OK")
    broken = mlflow.get_trace(ask("bad"))
    assert broken.info.state == "ERROR" and broken.data.spans[0].events[0].name == "exception"


def searched() -> None:
    made = [ask(f"question {number}") for number in range(5)]
    found, token = [], None
    while True:
        page = client.search_traces(locations=[place], max_results=2, page_token=token)
        found += [trace.info.trace_id for trace in page]
        token = page.token
        if not token:
            break
    assert found[:5] == made[::-1] and len(found) == len(set(found)) == 7
    assert len(mlflow.search_traces(locations=[place], filter_string="trace.status = 'ERROR'")) == 1
    frame = mlflow.search_traces(locations=[place], filter_string="tags.kind = 'ünï 🎯' AND trace.name = 'answer'")
    assert len(frame) == 7 and frame["response"].iloc[0]["text"] == "QUESTION 4"
    assert len(mlflow.search_traces(locations=[place], filter_string="span.type = 'TOOL'")) == 6
    assert len(mlflow.search_traces(locations=[place], filter_string="trace.text LIKE '%QUESTION 3%'")) == 1
    assert len(mlflow.search_traces(locations=[place], order_by=["execution_time DESC"], max_results=3)) == 3


def tagged_and_deleted() -> None:
    trace_id = ask("tagged")
    client.set_trace_tag(trace_id, "a/b", "1")
    assert client.get_trace(trace_id).info.tags["a/b"] == "1"
    client.delete_trace_tag(trace_id, "a/b")
    assert "a/b" not in client.get_trace(trace_id).info.tags
    try:
        client.delete_trace_tag(trace_id, "a/b")
    except MlflowException as error:
        assert error.error_code == "RESOURCE_DOES_NOT_EXIST"
    else:
        raise AssertionError("deleted twice")
    assert client.delete_traces(place, trace_ids=[trace_id]) == 1
    assert mlflow.get_trace(trace_id, silent=True) is None


def belonging_to_runs() -> None:
    with mlflow.start_run() as run:
        inside = ask("inside")
    outside = ask("outside")
    client.link_traces_to_run([outside], run.info.run_id)
    frame = mlflow.search_traces(locations=[place], run_id=run.info.run_id)
    assert set(frame["trace_id"]) == {inside, outside}


def judged() -> None:
    trace_id = ask("judged")
    person = AssessmentSource(source_type="HUMAN", source_id="ada")
    first = mlflow.log_feedback(trace_id=trace_id, name="right", value=False, rationale="no", source=person)
    mlflow.log_expectation(trace_id=trace_id, name="wanted", value={"text": "JUDGED"}, source=person)
    mlflow.update_assessment(trace_id, first.assessment_id, Feedback(name="right", value=True))
    kept = {found.name: found.value for found in mlflow.get_trace(trace_id).info.assessments}
    assert kept == {"right": True, "wanted": {"text": "JUDGED"}}, kept
    assert len(mlflow.search_traces(locations=[place], filter_string="feedback.right = 'true'")) == 1
    second = mlflow.override_feedback(trace_id=trace_id, assessment_id=first.assessment_id, value=False)
    assert not mlflow.get_assessment(trace_id, first.assessment_id).valid
    mlflow.delete_assessment(trace_id, second.assessment_id)
    assert mlflow.get_assessment(trace_id, first.assessment_id).valid


for part in (told_and_read, searched, tagged_and_deleted, belonging_to_runs, judged):
    part()
    print(part.__name__)
