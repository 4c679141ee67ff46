"""`flyball up` keeps a model right by itself: it notices, tells, trains again and takes the new version live."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notifiers.receiver import receiving
from tests.stories.system import System, wait_for
from tests.stories.tiny import add_arrivals, make_request, write_tiny

pytestmark = pytest.mark.slow
SETTINGS = "tick_seconds = 0.2\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny", settings=SETTINGS)


@pytest.fixture
def system(project: Path) -> Iterator[System]:
    made = System(project)
    yield made
    made.stop()


def test_new_rows_start_a_retraining_whose_version_goes_live_by_itself(project: Path, system: System) -> None:
    change_endpoint(project, "retrain=training, retrain_on=[fb.new_data(arrivals, rows=50)]")
    system.run("run", "training")
    system.up()
    assert system.live() == "lateness/1"
    add_arrivals(project, [(900_000 + number, number % 6, number % 2) for number in range(60)])
    wait_for(lambda: system.live() == "lateness/2", f"lateness/2 is live\n{system.told()}", 90)
    [started] = system.events("loop.retraining.started")
    assert started["data"]["reason"] == "60 new rows in arrivals"
    [finished] = system.events("loop.retraining.finished")
    assert finished["cause"] == started["seq"]
    prediction = wait_for(
        lambda: (found := system.predict(make_request(1)).body)["model_version"] == "lateness/2" and found, "it answers"
    )
    trace = system.ask("trace", prediction["prediction_id"])
    assert [event["kind"] for event in trace["cause"]] == ["loop.retraining.started", "loop.trigger.due"]
    assert trace["run"]["run"]["actor"] == "loop"


def test_a_schedule_starts_a_retraining_again_and_again(project: Path, system: System) -> None:
    change_endpoint(project, 'retrain=training, retrain_on=[fb.every("2s")]')
    system.run("run", "training")
    system.up()
    wait_for(lambda: len(system.events("loop.retraining.finished")) >= 2, "two have ended", 60)
    causes = [event["cause"] for event in system.events("loop.retraining.started")]
    assert len(set(causes)) == len(causes)
    assert {event["data"]["reason"] for event in system.events("loop.trigger.due")} == {"every 2s"}
    # Nothing has changed, so nothing was computed and there is nothing new to take live.
    assert system.live() == "lateness/1"


def test_strange_traffic_is_told_to_the_webhook_and_trained_upon(project: Path, system: System) -> None:
    with receiving() as receiver:
        (project / "flyball.toml").write_text(f'{SETTINGS}webhooks = ["{receiver.url}"]\n')
        change_endpoint(
            project,
            "monitors=[fb.prediction_mean(last=50, off_by=0.2)], "
            'retrain=training, retrain_on=[fb.drifted(cooldown="1s")]',
        )
        system.run("run", "training")
        system.up()
        heavy = [make_request(number) | {"weight_kg": 45.0} for number in range(60)]
        assert {system.predict(request).status for request in heavy} == {200}
        # The gateway closes its log's segment after half a minute; what is in it counts from then on.
        wait_for(lambda: receiver.bodies, "the alert comes", 90)
        alert = receiver.bodies[0]
        assert alert["endpoint"] == "parcel"
        assert alert["monitor"] == "prediction_mean"
        check_reaction(system, "prediction_mean")


def test_a_model_that_turned_out_wrong_is_trained_again(project: Path, system: System) -> None:
    system.run("run", "training")
    system.up()
    answers = [system.predict(make_request(number)).body for number in range(120)]
    assert {answer["status"] for answer in answers} == {"ok"}
    system.stop()
    # Each parcel turns out to be what the model thought less likely.
    add_arrivals(
        project,
        [(900_000 + number, number % 6, int(answer["prediction"] < 0.5)) for number, answer in enumerate(answers)],
    )
    change_endpoint(
        project,
        'monitors=[fb.performance("accuracy", labels=arrivals["late"], at_least=0.9, window="1h", min_labels=50)], '
        'retrain=training, retrain_on=[fb.degraded(cooldown="1s")]',
    )
    system.up()
    check_reaction(system, "accuracy")
    [_, told] = system.told().split("performance", 1)
    assert "accuracy" in told, "the console was not told"
    trace = system.ask("trace", answers[0]["prediction_id"])
    assert [label["source"] for label in trace["labels"]] == ["arrivals"]
    wait_for(lambda: system.live() == "lateness/2", "the new version is live", 60)


def check_reaction(system: System, word: str) -> None:
    """An alert was raised, caused one retraining, and that came to its end."""
    wait_for(lambda: system.events("loop.retraining.finished"), f"a retraining ends\n{system.told()}", 90)
    [raised] = system.events("monitoring.alert.raised")
    assert word in raised["data"]["message"] or word in raised["data"]["monitor"]
    started = system.events("loop.retraining.started")
    assert started[0]["cause"] == raised["seq"]
    assert len({event["cause"] for event in started}) == len(started)
    assert system.get("/status").body["endpoints"][0]["alerts"]
    assert system.run("audit", "verify")


def change_endpoint(project: Path, parts: str) -> None:
    """Give the endpoint these parts besides its model, gates, and a rollout of one second."""
    file = project / "project.py"
    kept = file.read_text().partition("parcel = fb.Endpoint(")[0]
    stages = 'rollout=[fb.shadow("1s")]'
    file.write_text(
        f'{kept}parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.3], {stages}, {parts})\n'
    )
