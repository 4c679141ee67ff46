"""Searching runs: what SQL finds is what a plain reading of the conditions finds, and pages show each run once."""

import math
import operator as operators
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.domain.tracking import search_store
from flyball.server.mlflow.app import MlflowApp
from flyball.workspace.home import Home
from tests.server.mlflow.calls import Calls

INVALID = (400, "INVALID_PARAMETER_VALUE")
QUOTES = ("'", "'")
KEYS = ("a", "b c", "d.e")
VALUES = ("", "x", "X", "xy%", "it's", "é", "x" * 70, "x" * 60 + "other")
NUMBERS = (-1.0, 0.0, 0.5, 2.0, math.nan, math.inf, -math.inf)
STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED")


class Stored:
    """Runs as they were logged, to search them plainly."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.experiments = [calls.post("experiments/create", name=f"e{n}")["experiment_id"] for n in range(3)]
        self.runs = [self._make(number) for number in range(60)]

    def _make(self, number: int) -> dict[str, Any]:
        def pick(values: tuple[Any, ...], salt: int) -> dict[str, Any]:
            # Some keys are missing; the rest repeats, so that orders have ties.
            chosen = {key: (number * 7 + place * 5 + salt) % (len(values) + 2) for place, key in enumerate(KEYS)}
            return {key: values[at] for key, at in chosen.items() if at < len(values)}

        run = {
            "experiment": self.experiments[number % 3],
            "start_time": 1_000 + number // 4,
            "status": STATUSES[number % 5],
            "end_time": 2_000 + number % 6 if number % 5 else None,
            "user_id": f"user{number % 2}",
            "name": f"run {number % 9}",
            "metric": pick(NUMBERS, 0),
            "param": pick(VALUES, 3),
            "tag": pick(VALUES, 1),
            "datasets": [(f"d{number % 4}", f"digest{number % 3}", ("train", None)[number % 2])] if number % 3 else [],
        }
        made = self.calls.post(
            "runs/create",
            experiment_id=run["experiment"],
            start_time=run["start_time"],
            user_id=run["user_id"],
            run_name=run["name"],
        )
        run["id"] = made["run"]["info"]["run_id"]
        run["tag"] = {**run["tag"], "mlflow.runName": run["name"]}
        metrics = [
            {"key": key, "value": str(value).replace("inf", "Infinity").replace("nan", "NaN"), "timestamp": 1}
            for key, value in run["metric"].items()
        ]
        items = {
            kind + "s": [{"key": key, "value": value} for key, value in run[kind].items()] for kind in ("param", "tag")
        }
        self.calls.post("runs/log-batch", run_id=run["id"], metrics=metrics, **items)
        for name, digest, context in run["datasets"]:
            dataset = {"name": name, "digest": digest, "source_type": "", "source": ""}
            tags = [{"key": "mlflow.data.context", "value": context}] if context else []
            self.calls.post("runs/log-inputs", run_id=run["id"], datasets=[{"dataset": dataset, "tags": tags}])
        change = {"run_id": run["id"], "status": run["status"]}
        self.calls.post("runs/update", **change, **({"end_time": run["end_time"]} if run["end_time"] else {}))
        run["is_deleted"] = number % 10 == 7
        if run["is_deleted"]:
            self.calls.post("runs/delete", run_id=run["id"])
        return run

    def page_through(self, **search: Any) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = self.calls.post("runs/search", **search, **({"page_token": token} if token else {}))
            found += [run["info"]["run_id"] for run in page["runs"]]
            token = page.get("next_page_token", "")
            if not token:
                return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder: Path = tmp_path_factory.mktemp("search")
    home = Home(folder, folder / "home", is_durable=False)
    app = MlflowApp(home)
    yield Stored(Calls(app))
    app.close()
    home.db.close()


def compare(left: Any, operator: str, right: Any) -> bool:
    if operator == "IS NULL":
        return left is None
    if operator == "IS NOT NULL":
        return left is not None
    if left is None:
        return False
    match operator:
        case "IN":
            return left in right
        case "NOT IN":
            return left not in right
        case "LIKE":
            return like(left, right)
        case "ILIKE":
            return like(small(left), small(right))
    return bool(PLAIN[operator](left, right))


PLAIN = {
    "=": operators.eq,
    "!=": operators.ne,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


def like(text: str, pattern: str) -> bool:
    words = "".join(".*" if sign == "%" else "." if sign == "_" else re.escape(sign) for sign in pattern)
    return re.fullmatch(words, text, re.DOTALL) is not None


def small(text: str) -> str:
    return "".join(sign.lower() if sign.isascii() else sign for sign in text)


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


_numbers = st.sampled_from([-1, 0, 0.5, 1.7, 2, 1e300])
_patterns = st.sampled_from([*VALUES, "%x%", "_", "X%", "%'%", "xy%", "\\"])
_number_operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
_text_operators = st.sampled_from(["=", "!=", "LIKE", "ILIKE"])


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, Any]:
    """Return a condition's text and a function that tells whether a run meets it."""
    kind = draw(st.sampled_from(["metric", "param", "tag", "time", "text", "dataset", "null", "list"]))
    key = draw(st.sampled_from(KEYS))
    written = f"`{key}`" if draw(st.booleans()) or " " in key else key
    if kind == "metric":
        operator, number = draw(_number_operators), draw(_numbers)
        return f"metrics.{written} {operator} {number}", lambda run: compare(run["metric"].get(key), operator, number)
    if kind in ("param", "tag"):
        operator, text = draw(_text_operators), draw(_patterns)
        return f"{kind}s.{written} {operator} {quoted(text)}", lambda run: compare(run[kind].get(key), operator, text)
    if kind == "null":
        entity, operator = draw(st.sampled_from(["param", "tag"])), draw(st.sampled_from(["IS NULL", "IS NOT NULL"]))
        return f"{entity}.{written} {operator}", lambda run: compare(run[entity].get(key), operator, None)
    if kind == "time":
        name, operator = draw(st.sampled_from(["start_time", "end_time"])), draw(_number_operators)
        number = draw(st.integers(998, 1_020) | st.integers(1_998, 2_007))
        return f"attributes.{name} {operator} {number}", lambda run: compare(run[name], operator, number)
    if kind == "text":
        name = draw(st.sampled_from(["status", "user_id", "run_name"]))
        operator = draw(_text_operators)
        text = draw(st.sampled_from(["FINISHED", "finished", "F%", "user1", "run 3", "run%", "RUN _"]))
        field = "name" if name == "run_name" else name
        return f"{name} {operator} {quoted(text)}", lambda run: compare(run[field], operator, text)
    if kind == "dataset":
        place = draw(st.integers(0, 2))
        operator = draw(st.sampled_from(["=", "!=", "LIKE", "ILIKE", "IN", "NOT IN"]))
        texts = draw(st.lists(st.sampled_from(["d1", "D1", "digest1", "train", "d%", "other"]), min_size=1, max_size=3))
        name = ("name", "digest", "context")[place]
        value: Any = texts if "IN" in operator else texts[0]
        shown = f"({', '.join(map(quoted, texts))})" if "IN" in operator else quoted(texts[0])
        return (
            f"dataset.{name} {operator} {shown}",
            lambda run: any(compare(entry[place], operator, value) for entry in run["datasets"]),
        )
    operator = draw(st.sampled_from(["IN", "NOT IN"]))
    places = draw(st.lists(st.integers(0, 59), min_size=1, max_size=4))
    return ("run_id", (operator, places))


ORDERS = [f"{entity}.`{key}`" for entity in ("metrics", "params", "tags") for key in KEYS[:2]] + [
    "start_time",
    "attributes.end_time",
    "status",
    "run_id",
    "user_id",
    "`Run Name`",
]


def sort_plainly(runs: list[dict[str, Any]], orders: list[tuple[str, bool]]) -> list[dict[str, Any]]:
    found = sorted(runs, key=lambda run: run["id"])
    found.sort(key=lambda run: -run["start_time"])
    for name, is_up in reversed(orders):
        found.sort(key=lambda run, name=name: number_of(run, name), reverse=not is_up)
        found.sort(key=lambda run, name=name: text_of(run, name), reverse=not is_up)
        found.sort(key=lambda run, name=name: rank_of(run, name))
    return found


def value_of(run: dict[str, Any], name: str) -> Any:
    entity, _, key = name.partition(".")
    key = key.strip("`")
    if entity in ("metrics", "params", "tags"):
        return run[entity[:-1]].get(key)
    return run[{"run_id": "id", "`Run Name`": "name"}.get(name, name.removeprefix("attributes."))]


def number_of(run: dict[str, Any], name: str) -> float:
    value = value_of(run, name)
    return value if isinstance(value, int | float) and value == value else 0.0


def text_of(run: dict[str, Any], name: str) -> str:
    value = value_of(run, name)
    return value if isinstance(value, str) else ""


def rank_of(run: dict[str, Any], name: str) -> int:
    value = value_of(run, name)
    return 2 if value is None else 1 if value != value else 0


@given(data=st.data())
@settings(deadline=None, max_examples=250)
def test_a_search_finds_what_a_plain_reading_finds(stored: Stored, data: st.DataObject) -> None:
    """Whatever the filter, the order, the view, the size of pages, and the way that the planner takes."""
    drawn = data.draw(st.lists(conditions(), max_size=3))
    texts, tests = [], []
    for text, test in drawn:
        if text == "run_id":
            operator, places = test
            ids = [stored.runs[place]["id"] for place in places]
            texts.append(f"attributes.run_id {operator} ({', '.join(map(quoted, ids))})")
            tests.append(lambda run, operator=operator, ids=ids: compare(run["id"], operator, ids))
        else:
            texts.append(text)
            tests.append(test)
    names = data.draw(st.lists(st.sampled_from(ORDERS), max_size=2, unique=True))
    orders = [(name, data.draw(st.booleans())) for name in names]
    view = data.draw(st.sampled_from(["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]))
    experiments = data.draw(st.lists(st.sampled_from(stored.experiments), min_size=1, max_size=3, unique=True))
    few = data.draw(st.sampled_from([0, 5, 2_000]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_store, "_FEW", few)
        found = stored.page_through(
            experiment_ids=experiments,
            filter=" and ".join(texts),
            order_by=[f"{name} {'ASC' if is_up else 'DESC'}" for name, is_up in orders],
            run_view_type=view,
            max_results=data.draw(st.sampled_from([1, 4, 7, 100])),
        )
    expected = [
        run
        for run in stored.runs
        if run["experiment"] in experiments
        and (view == "ALL" or run["is_deleted"] == (view == "DELETED_ONLY"))
        and all(test(run) for test in tests)
    ]
    assert found == [run["id"] for run in sort_plainly(expected, orders)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"filter": "metrics.a > 1 AND"}, "ends where a condition goes on"),
        ({"filter": "metrics.a > 1 OR metrics.b > 1"}, "AND is expected"),
        ({"filter": "metrics.a > 'x'"}, "needs a number"),
        ({"filter": "params.a = 3"}, "needs a quoted text"),
        ({"filter": "params.a > 'x'"}, "Invalid comparator"),
        ({"filter": "metrics.a IS NULL"}, "Invalid comparator"),
        ({"filter": "status IN ('a')"}, "cannot be compared with a list"),
        ({"filter": "attributes.color = 'red'"}, "Invalid attribute key 'color'"),
        ({"filter": "colors.a = 'red'"}, "Invalid entity type 'colors'"),
        ({"filter": "dataset.size = 'red'"}, "Invalid dataset key 'size'"),
        ({"filter": "params.a = 'x'; DROP TABLE tracking_run"}, "cannot be read"),
        ({"filter": "params.a = 'x' -- '"}, "cannot be read"),
        ({"filter": "params.a = 'x"}, "cannot be read"),
        ({"filter": "params.a = '\0'"}, "NUL"),
        ({"filter": "a" * 200_000}, "at most 100,000"),
        ({"filter": " AND ".join(["metrics.a > 1"] * 201)}, "at most 200 conditions"),
        ({"filter": f"run_id IN ({', '.join(['0'.join(QUOTES)] * 10_001)})"}, "at most 10,000"),
        ({"filter": f"tags.a LIKE '{'%' * 10_001}'"}, "at most 10,000"),
        ({"order_by": [f"metrics.m{place}" for place in range(21)]}, "at most 20 keys"),
        ({"filter": 3}, "filter"),
        ({"order_by": ["metrics.a UP"]}, "ASC or DESC"),
        ({"order_by": ["metrics.a", "metrics.a DESC"]}, "duplicate fields"),
        ({"order_by": ["lifecycle_stage"]}, "Invalid attribute key"),
        ({"order_by": "metrics.a"}, "order_by"),
        ({"max_results": 50_001}, "max_results"),
        ({"max_results": "many"}, "max_results"),
        ({"max_results": -1}, "max_results"),
        ({"run_view_type": "SOME"}, "view_type"),
        ({"experiment_ids": ["one"]}, "valid integer"),
        ({"experiment_ids": ["0"] * 10_001}, "experiment_ids"),
        ({"page_token": "made up"}, "page_token"),
        ({"page_token": "é"}, "page_token"),
        ({"page_token": "AAAAAAAAAAAAAAAA"}, "page_token"),
    ],
)
def test_a_search_that_cannot_be_read_is_refused(stored: Stored, fields: dict[str, Any], words: str) -> None:
    reply = stored.calls.refused("runs/search", **{"experiment_ids": stored.experiments, **fields})
    assert reply.error == INVALID
    assert words in reply.json()["message"]


def test_a_token_of_another_search_is_refused(stored: Stored) -> None:
    search = {"experiment_ids": stored.experiments, "max_results": 3}
    token = stored.calls.post("runs/search", **search)["next_page_token"]
    for change in (
        {"filter": "metrics.a > 0"},
        {"order_by": ["metrics.a"]},
        {"experiment_ids": stored.experiments[:1]},
        {"run_view_type": "ALL"},
    ):
        assert stored.calls.refused("runs/search", **{**search, **change}, page_token=token).error == INVALID


def test_the_longest_search_is_carried_out(stored: Stored) -> None:
    """As many conditions, listed values and orders as are taken."""
    texts = [f"tags.k{place} ILIKE '{'%a' * 100}'" for place in range(198)]
    ids = ", ".join(["'x'"] * 9_000)
    orders = [f"metrics.m{place}" for place in range(20)]
    for some in ([*texts, f"run_id IN ({ids})"], ["metrics.a > -1e9", "params.a != 'q'"]):
        found = stored.calls.post(
            "runs/search", experiment_ids=stored.experiments, filter=" AND ".join(some), order_by=orders, max_results=2
        )
        if "next_page_token" in found:
            stored.calls.post(
                "runs/search",
                experiment_ids=stored.experiments,
                filter=" AND ".join(some),
                order_by=orders,
                max_results=2,
                page_token=found["next_page_token"],
            )


def test_no_experiment_has_no_runs(stored: Stored) -> None:
    assert stored.calls.post("runs/search", experiment_ids=[]) == {"runs": []}
    assert stored.calls.post("runs/search", experiment_ids=["777"]) == {"runs": []}


def test_a_huge_number_in_a_filter_is_a_number(stored: Stored) -> None:
    for text in ("attributes.start_time < 99999999999999999999", "metrics.a < 1e999", "metrics.a > -1e999"):
        assert stored.calls.refused("runs/search", experiment_ids=stored.experiments, filter=text).status == 200
