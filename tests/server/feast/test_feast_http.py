"""Feast's protocol as it was recorded from its own server, and what that server gets wrong."""

from datetime import timedelta
from typing import Any

import pytest

from tests.server.feast.conftest import NOW, Gateway
from tests.stories.system import wait_for


def _text(days: float) -> str:
    return (NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


_EPOCH = "1970-01-01T00:00:00Z"


def test_the_answer_is_columnar_with_keys_first(gateway: Gateway) -> None:
    status, answer = gateway.post(
        "/get-online-features",
        {
            "entities": {"customer_id": [1, "2", 3, 99]},
            "features": ["behaviour:share", "behaviour:days", "behaviour:seen"],
            "full_feature_names": False,
            "include_feature_view_version_metadata": False,
        },
    )
    times = [_text(1), _text(2), _text(60), _EPOCH]
    seen = int((NOW - timedelta(days=1)).timestamp())
    assert (status, answer) == (
        200,
        {
            "results": [
                {"values": [1, "2", 3, 99], "statuses": ["PRESENT"] * 4, "event_timestamps": [_EPOCH] * 4},
                {
                    "values": [0.5, "NaN", None, None],
                    "statuses": ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
                    "event_timestamps": times,
                },
                {
                    "values": [10, None, None, None],
                    "statuses": ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
                    "event_timestamps": times,
                },
                {
                    "values": [seen, seen, None, None],
                    "statuses": ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
                    "event_timestamps": times,
                },
            ],
            "metadata": {"feature_names": ["customer_id", "share", "days", "seen"]},
        },
    )


def test_lists_of_the_project_are_feature_services(gateway: Gateway) -> None:
    status, answer = gateway.post(
        "/get-online-features",
        {
            "entities": {"customer_id": [1], "shop": ["a"]},
            "feature_service": "some",
            "full_feature_names": True,
            "include_feature_view_version_metadata": True,
        },
    )
    assert status == 200
    assert answer["metadata"]["feature_names"] == ["customer_id", "shop", "behaviour__days", "loyalty__visits"]
    assert [view["name"] for view in answer["metadata"]["feature_view_metadata"]] == ["behaviour", "loyalty"]
    assert answer["results"][3]["values"] == [7]


def test_many_entities_are_answered_as_few(gateway: Gateway) -> None:
    status, answer = gateway.post(
        "/get-online-features", {"entities": {"customer_id": [1, 99] * 3_000}, "features": ["behaviour:days"]}
    )
    assert status == 200
    assert answer["results"][1]["values"] == [10, None] * 3_000


_GET: dict[str, Any] = {"entities": {"customer_id": [1]}, "features": ["behaviour:days"]}


@pytest.mark.parametrize(
    ("path", "content", "status", "message"),
    [
        ("/get-online-features", _GET | {"features": ["behaviour:day"]}, 404, "did you mean 'days'"),
        ("/get-online-features", _GET | {"features": ["nothing:days"]}, 404, "no feature view is named 'nothing'"),
        ("/get-online-features", _GET | {"features": ["days:"]}, 422, "no reference to a feature"),
        ("/get-online-features", _GET | {"entities": {}}, 422, "the key 'customer_id' is missing"),
        ("/get-online-features", _GET | {"features": ["unwritten:days"]}, 409, "no online rows yet"),
        ("/get-online-features", {"entities": {"customer_id": [1]}}, 422, "one of features and feature_service"),
        ("/get-online-features", {"entities": {}, "feature_service": "x"}, 404, "no list of features is named 'x'"),
        ("/get-online-features", b"{", 400, "not JSON"),
        ("/get-online-features", b"\xff", 400, "not JSON"),
        ("/get-online-features", {"entities": {"customer_id": 1}}, 422, "Expected `array`"),
        ("/get-online-features", b"[]", 422, "Expected `object`"),
        ("/push", {"push_source_name": "nothing", "df": {}}, 422, "no feature view or table is named 'nothing'"),
        ("/push", {"push_source_name": "payments", "df": {}, "to": "nowhere"}, 422, "cannot be pushed to 'nowhere'"),
        ("/push", {"push_source_name": "loyalty", "df": {"visits": [1]}}, 422, "lack the column 'customer_id'"),
        ("/write-to-online-store", {"feature_view_name": "nothing", "df": {}}, 404, "no feature view is named"),
        ("/materialize", {"feature_views": ["nothing"]}, 404, "no feature view is named 'nothing'"),
        ("/materialize", {"end_ts": "yesterday"}, 422, "end_ts 'yesterday' is not an ISO 8601 instant"),
    ],
)
def test_what_is_wrong_with_a_request_is_the_callers_to_know(
    gateway: Gateway, path: str, content: Any, status: int, message: str
) -> None:
    found, answer = gateway.post(path, content)
    assert found == status
    assert message in answer["detail"]


def test_an_address_takes_only_its_method(gateway: Gateway) -> None:
    assert gateway.get("/push")[0] == 405
    assert gateway.get("/health")[0] == 200


def _rows(**columns: list[Any]) -> dict[str, Any]:
    return {"feature_view_name": "loyalty", "df": columns}


def _visits(gateway: Gateway, customer: int) -> Any:
    answer = gateway.post(
        "/get-online-features",
        {"entities": {"customer_id": [customer], "shop": ["a"]}, "features": ["loyalty:visits"]},
    )[1]
    return answer["results"][2]["values"][0]


def test_the_newest_of_written_rows_counts_and_outlives_a_materialisation(gateway: Gateway) -> None:
    naive = (NOW + timedelta(seconds=-5)).replace(tzinfo=None)
    times = [naive.isoformat(), (naive - timedelta(days=1)).isoformat()]
    rows = _rows(customer_id=[5, 5], shop=["a", "a"], visits=[2, 1], event_timestamp=times, created=[None, None])
    assert gateway.post("/write-to-online-store", rows) == (200, None)
    assert _visits(gateway, 5) == 2
    late = _rows(customer_id=["5"], shop=["a"], visits=[9], event_timestamp=times[1:])
    assert gateway.post("/push", {"push_source_name": "visits", "df": late["df"]}) == (200, None)
    assert _visits(gateway, 5) == 2
    view = gateway.workspace.project.views["loyalty"]
    key = f"loyalty@{gateway.workspace.features.view_version(view)}"
    gateway.workspace.features._online.replace(key, [])  # what a store loses, pushed rows included, comes back
    assert gateway.post("/materialize", {"end_ts": NOW.isoformat(), "feature_views": ["loyalty"]}) == (200, None)
    assert (_visits(gateway, 5), _visits(gateway, 1)) == (2, 7)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"customer_id": [None]}, "'customer_id' is null"),
        ({"visits": [2**70]}, "column 'visits' holds a value that is too large"),
        ({"visits": ["many"]}, "column 'visits' holds a value that is not an int"),
        ({"event_timestamp": ["soon"]}, "the time of row 0 'soon' is not an ISO 8601 instant"),
        ({"event_timestamp": [7]}, "pushed with the time 7"),
        ({"visits": [1, 2]}, "pushed columns need one length"),
        ({"vists": [1]}, "have 'vists'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_whole(gateway: Gateway, columns: dict[str, Any], message: str) -> None:
    right = {"customer_id": [8], "shop": ["a"], "visits": [1], "event_timestamp": [NOW.isoformat()]}
    status, answer = gateway.post("/write-to-online-store", _rows(**(right | columns)))
    assert status == 422
    assert message in answer["detail"]
    assert _visits(gateway, 8) is None


def test_materialisation_may_be_waited_for_or_not(gateway: Gateway) -> None:
    asked = {"end_ts": NOW.isoformat(), "feature_views": ["behaviour"]}
    answers = [gateway.post("/materialize-incremental?async=true", asked) for _ in range(2)]
    assert answers[0] == (202, {"status": "accepted", "feature_views": ["behaviour"]})
    assert answers[1][0] == 409
    assert answers[1][1]["feature_views"] == ["behaviour"]


def test_why_a_materialisation_failed_is_told_in_one_sentence(gateway: Gateway) -> None:
    source, away = gateway.root / "visits.parquet", gateway.root / "visits.away"
    source.rename(away)
    try:
        status, answer = gateway.post("/materialize", {"feature_views": ["loyalty"]})
    finally:
        away.rename(source)
    assert status == 502
    assert answer["code"] == "features/materialisation-failed"
    assert answer["detail"].startswith("loyalty could not be materialised: the table 'visits' lies nowhere")
    assert "error[" not in answer["detail"]
    assert "\n" not in answer["detail"]


def test_rows_of_the_future_are_refused(gateway: Gateway) -> None:
    rows = {"customer_id": [8], "shop": ["a"], "visits": [1], "event_timestamp": ["2999-01-01T00:00:00Z"]}
    status, answer = gateway.post("/push", {"push_source_name": "loyalty", "df": rows})
    assert status == 422
    assert "has not come yet" in answer["detail"]


def test_every_type_may_be_pushed_as_json_writes_it(gateway: Gateway) -> None:
    row: dict[str, Any] = {
        "customer_id": ["42"],
        "days": [3.0],
        "share": ["-Infinity"],
        "shop": [None],
        "is_late": [False],
        "seen": ["2026-01-01T01:00:00+01:00"],
        "event_timestamp": [NOW.isoformat()],
    }
    assert gateway.post("/write-to-online-store", {"feature_view_name": "behaviour", "df": row}) == (200, None)
    names = ["days", "share", "shop", "is_late", "seen"]
    status, answer = gateway.post(
        "/get-online-features",
        {"entities": {"customer_id": [42]}, "features": [f"behaviour:{name}" for name in names]},
    )
    assert status == 200
    assert [column["values"][0] for column in answer["results"]] == [42, 3, "-Infinity", None, False, 1767225600]


def test_lookups_are_counted_by_view_and_outcome(gateway: Gateway) -> None:
    asked = {"entities": {"customer_id": [1, 3, 1234]}, "features": ["behaviour:days"]}
    assert gateway.post("/get-online-features", asked)[0] == 200
    for outcome in ("found", "outdated", "unknown"):
        line = f'flyball_online_lookups_total{{view="behaviour",outcome="{outcome}"}}'
        wait_for(lambda line=line: line in gateway.text("/metrics"), line)
