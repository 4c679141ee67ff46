"""``POST /predict/ENDPOINT?explain=true``."""

import pytest

from tests.server.inference.conftest import REQUEST, Gateway


def test_an_answer_is_explained_when_that_is_asked_for(gateway: Gateway) -> None:
    answer = gateway.predict(REQUEST, "credit?explain=true").json
    explanation = answer["explanation"]
    assert explanation["base"] + sum(explanation["attributions"].values()) == answer["prediction"] == 0.25
    assert (explanation["scale"], explanation["method"]) == ("probability", "sampled")
    assert "explanation" not in gateway.predict(REQUEST, "credit?explain=false").json
    many = gateway.predict({"rows": [REQUEST] * 3}, "credit?explain=1").json
    assert all("explanation" in row for row in many["predictions"])
    assert 'flyball_predictions_total{endpoint="credit"' in gateway.get("/metrics").body.decode()


@pytest.mark.parametrize(
    ("query", "rows", "reason"),
    [
        ("explain=maybe", 1, "true or false"),
        ("explain=true", 101, "at most 100"),
        ("explian=true", 1, "'explian' in its query"),
        ("explain=true&version=1", 1, "'version' in its query"),
    ],
)
def test_what_cannot_be_explained_is_refused(gateway: Gateway, query: str, rows: int, reason: str) -> None:
    response = gateway.predict({"rows": [REQUEST] * rows}, f"credit?{query}")
    assert response.status == 422
    assert reason in response.json["detail"]
