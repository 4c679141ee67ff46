"""Rules about several columns and about the whole table: one definition for tables, batches and rows."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.domain.data.expectations import ColumnRules, column, expression, flatten, unique_together
from flyball.domain.data.polars_expressions import ExpressionFailedError
from flyball.domain.data.reports import Report
from flyball.domain.data.row_checks import compile_row
from flyball.domain.data.row_rules import Compare, Comparison
from flyball.domain.data.rules import Rule, decode_rules, encode_rules
from flyball.domain.data.schemas import Schema
from flyball.domain.data.service import DataService
from flyball.domain.data.surroundings import Surroundings
from flyball.domain.data.table_checks import compile_batch, compile_table
from flyball.domain.data.tables import Table
from flyball.domain.journal.service import Journal
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database

NOW = datetime(2026, 11, 20, tzinfo=UTC)
CUSTOMERS = pl.Series([1, 2, 3])
AROUND = Surroundings(
    now=NOW, values=lambda table, key: CUSTOMERS, shares=lambda snapshot, column: {"web": 0.7, "shop": 0.3}
)


def report_of(frame: pl.DataFrame, *expectations: Rule | ColumnRules) -> Report:
    return compile_table(flatten(expectations, of="test"), AROUND)(frame.lazy())


def words_of(frame: pl.DataFrame, *expectations: Rule | ColumnRules) -> list[str]:
    return [result.message for result in report_of(frame, *expectations).violations]


INTS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 2**53, 2**53 + 1, 2**63 - 1])
FLOATS = st.floats() | st.sampled_from([0.0, 0.5, 1.0, 2.0**53, 2.0**63])
TEXTS = st.text(max_size=3) | st.sampled_from(["2026-01-01", "2026-01-01T10:00:00Z", "2026-01-01T10:00:00+02:00", "b"])
KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pl.Int64, INTS),
    (pl.Int8, st.integers(-128, 127)),
    (pl.UInt64, st.integers(0, 2**64 - 1)),
    (pl.Float64, FLOATS),
    (pl.Float32, st.floats(width=32)),
    (pl.String, TEXTS),
    (pl.Boolean, st.booleans()),
    (pl.Datetime("us", "UTC"), st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))),
    (pl.Date, st.dates(date(2025, 12, 1), date(2026, 2, 1))),
]
COMPARISONS: list[Comparison] = ["at least", "at most", "above", "below", "equal to"]


@st.composite
def two_columns(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(0, 6))
    drawn = {}
    for name in ("x", "y"):
        dtype, values = draw(st.sampled_from(KINDS))
        given_values = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        drawn[name] = pl.Series(name, given_values, dtype=dtype, strict=False)
    return pl.DataFrame(drawn)


@settings(deadline=None, max_examples=400)
@given(two_columns(), st.sampled_from(COMPARISONS))
def test_a_table_and_its_rows_compare_columns_alike(frame: pl.DataFrame, comparison: Comparison) -> None:
    rule = Compare(column="x", comparison=comparison, other="y")
    result = compile_table([rule])(frame.lazy()).results[0]
    check = compile_row([rule])
    violations = [found for row in frame.iter_rows(named=True) for found in check(row)]
    assert result.violations == len(violations)
    if violations:
        assert result.message == f"{violations[0].message} ({len(violations):,} of {frame.height:,} rows)"


EXPRESSIONS = [
    pl.col("x") >= pl.col("y"),
    (pl.col("x") - pl.col("y")).abs() < 10,
    pl.col("x").is_between(-5, 5) | pl.col("y").is_null(),
    pl.when(pl.col("y") > 0).then(pl.col("x") > 0).otherwise(True),
]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.none() | st.integers(-20, 20), st.none() | st.floats(-20, 20)), max_size=6),
    st.sampled_from(EXPRESSIONS),
)
def test_a_table_a_batch_and_its_rows_are_judged_alike_by_an_expression(
    rows: list[tuple[Any, Any]], polars: pl.Expr
) -> None:
    frame = pl.DataFrame(rows, schema={"x": pl.Int64, "y": pl.Float64}, orient="row")
    rules = decode_rules(
        encode_rules([expression("fits", polars, severity="quarantine"), column("x").not_null().rules[0]])
    )
    check = compile_row(rules, schema=Schema.of(frame))
    broken = [bool(check(row)) for row in frame.iter_rows(named=True)]
    judged = compile_batch(rules)(frame)
    assert judged.quarantined.rows() == frame.filter(pl.Series(broken, dtype=pl.Boolean)).rows()
    assert judged.kept.height + judged.quarantined.height == frame.height
    counted = [
        sum(v.rule == name for row in frame.iter_rows(named=True) for v in check(row))
        for name in ("expression", "not_null")
    ]
    assert [result.violations for result in compile_table(rules)(frame.lazy()).results] == counted


def test_violations_of_several_kinds_come_in_declared_order() -> None:
    rules = flatten(
        [
            column("paid").at_most(column("due")),
            column("paid").at_least(0),
            expression("round", pl.col("due") % 10 == 0),
        ],
        of="test",
    )
    assert [violation.message for violation in compile_row(rules)({"paid": -1, "due": -5})] == [
        "paid must be at most due, but -1 was given and due is -5",
        "paid must be at least 0, but -1 was given",
        "round must hold, but it does not: due=-5",
    ]
    assert [violation.rule for violation in compile_row(rules, ["paid"])({"paid": -1})] == ["at_least"]


ORDERS = pl.DataFrame(
    {
        "customer": [1, 2, 9, None],
        "shop": ["a", "a", "b", "a"],
        "day": [1, 2, 1, 1],
        "price": [10.0, 20.0, float("nan"), 30.0],
        "at": [datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=n) for n in (0, 2, 1, 3)],
        "channel": ["web", "web", "shop", None],
    }
)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (unique_together("shop", "day"), "shop, day must be unique together, but shop='a', day=1 was given more"),
        (
            column("customer").nulls_at_most(0.1),
            "customer must be null in at most 10% of the rows, but 25% are (1 of 4)",
        ),
        (
            column("at").fresh("7d"),
            "at must have a value of the last 1w, but the newest is 2026-11-04T00:00:00Z, 16d old",
        ),
        (
            column("at").increasing(),
            "at must be increasing from row to row, but 2026-11-02T00:00:00Z was given (1 of 4",
        ),
        (column("day").decreasing(), "day must be decreasing from row to row, but 2 was given (1 of 4 rows)"),
        (
            column("day").increasing(strictly=True, by="shop"),
            "day must be strictly increasing from row to row within each",
        ),
        (column("price").mean(at_most=15), "price must have a mean of at most 15, but it is 20"),
        (column("price").median(at_least=25), "price must have a median of at least 25, but it is 20"),
        (column("price").quantile(0.5, at_most=9), "price must have a 0.5 quantile of at most 9, but it is 20"),
        (column("price").std(at_most=1), "price must have a standard deviation of at most 1, but it is 10"),
        (
            column("shop").distinct(at_least=3, at_most=9),
            "shop must have a number of distinct values between 3 and 9, but",
        ),
        (column("price").statistic("sum", at_least=70), "price must have a sum of at least 70, but it is 60"),
        (column("shop").mean(at_least=0), "shop must have a mean of at least 0, but it holds String, not numbers"),
        (expression("sums up", pl.col("day").sum() == 6, of="table"), "sums up must hold, but it does not"),
        (column("gone").median(at_most=1), "gone must have a median of at most 1, but the table has no such column"),
    ],
)
def test_what_a_broken_rule_about_the_table_says(rule: Rule | ColumnRules, words: str) -> None:
    said = words_of(ORDERS, rule)
    assert len(said) == 1
    assert said[0].startswith(words)


@pytest.mark.parametrize(
    "rule",
    [
        unique_together("shop", "price"),
        column("customer").nulls_at_most(0.25),
        column("at").fresh("17d"),
        column("price").mean(at_least=20, at_most=20),
        column("customer").increasing(),
        column("at").increasing(by=["shop"]),
        column("shop").mixed_like({"a": 0.75, "b": 0.25}, within=0.0),
        expression("sums up", pl.col("day").sum() == 5, of="table"),
    ],
)
def test_rules_about_the_table_that_hold(rule: Rule | ColumnRules) -> None:
    assert words_of(ORDERS, rule) == []
    assert compile_row(flatten([rule], of="test"))({}) == []


def test_a_foreign_key_names_the_table_and_the_value() -> None:
    customers = Table("customers.csv", key="id", name="customers")
    orders = Table("orders.csv", name="orders")
    orders.expect(column("customer").references(customers["id"]).or_quarantine())
    assert orders.referenced == {"customers": customers}
    report = compile_table(orders.expectations, AROUND)(ORDERS.lazy())
    assert report.results[0].message == "customer must occur in customers.id, but 9 was given (1 of 4 rows)"
    assert report.quarantined == 1


def test_a_foreign_key_may_name_a_table_that_gets_its_name_later() -> None:
    customers, orders = Table("customers.csv"), Table("orders.csv", name="orders")
    orders.expect(column("customer").references(customers["id"]))
    with pytest.raises(InvalidInputError, match="has no name"):
        _ = orders.expectations
    customers.name = "people"
    assert orders.expectations[0].demand == "must occur in people.id"


def test_a_mix_is_compared_with_what_chance_explains_let_pass() -> None:
    few = pl.DataFrame({"channel": ["web"] * 6 + ["shop"] * 4})
    many = pl.DataFrame({"channel": ["web"] * 6000 + ["shop"] * 4000})
    rule = column("channel").mixed_like("a-snapshot", within=0.05)
    assert words_of(few, rule) == []
    assert words_of(many, rule) == [
        "channel must be mixed like its reference, 5% aside, but it differs by 10%: 'shop' has 40% instead of 30%"
    ]


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("en", ["The parcel was late and the box was open.", "I would not buy it again, it is not what they said"]),
        ("de", ["Das Paket kam zu spät und die Schachtel war offen", "Ich bin mit der Ware nicht zufrieden"]),
        ("fr", ["Le colis est arrivé en retard et la boîte était ouverte", "Je ne suis pas satisfait de la qualité"]),
        (
            "es",
            ["El paquete llegó tarde y la caja estaba abierta", "No estoy contento con la calidad de los productos"],
        ),
    ],
)
def test_the_language_of_a_column_is_told_by_its_frequent_words(language: str, texts: list[str]) -> None:
    frame = pl.DataFrame({"review": [*texts, None] * 10})
    assert words_of(frame, column("review").language(language)) == []
    other = "en" if language != "en" else "de"
    assert words_of(frame, column("review").language(other)) == [
        f"review must be written in the language {other!r}, but its words are {language!r}"
    ]
    assert "cannot be told" in words_of(pl.DataFrame({"review": ["4711", "xyz"]}), column("review").language("en"))[0]


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: column("x").mean(at_least=1).or_quarantine(), "speaks of the whole table"),
        (lambda: column("x").or_quarantine().nulls_at_most(0.5), "speaks of the whole table"),
        (lambda: column("x").mean(), "at least one finite limit"),
        (lambda: column("x").mean(at_least=2, at_most=1), "can not be between"),
        (lambda: column("x").nulls_at_most(5), "not a share"),
        (lambda: column("x").above(3), "compared with a column"),
        (lambda: column("x").mixed_like({"a": 0.5}), "add up to 0.5"),
        (lambda: column("x").language("tlh"), "none of"),
        (lambda: column("x").references("customers"), "not a column of a table"),
        (lambda: unique_together("x"), "at least two columns"),
        (lambda: expression("x", 3), "not a Polars expression"),
        (lambda: expression("x", pl.lit(True)), "reads no column"),
        (lambda: expression("x", pl.col("x").map_elements(bool, return_dtype=pl.Boolean)), "Python function"),
    ],
)
def test_what_cannot_be_expected_is_refused(declare: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        declare()


def test_every_rule_survives_json() -> None:
    rules = flatten(
        [
            unique_together("a", "b"),
            column("a").nulls_at_most(0.1).increasing(by="b").mean(at_least=1).fresh("2d").language("de"),
            column("a").mixed_like({"x": 1.0}).quantile(0.5, at_most=3).below(column("b")),
            expression("e", pl.col("a") > 1),
        ],
        of="test",
    )
    assert decode_rules(encode_rules(rules)) == list(rules)


def test_the_service_looks_up_foreign_keys_and_the_present(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1, 2]}).write_parquet(tmp_path / "customers.parquet")
    ORDERS.write_parquet(tmp_path / "orders.parquet")
    customers = Table("customers.parquet", key="id", name="customers")
    orders = Table("orders.parquet", time="at", name="orders")
    orders.expect(column("customer").references(customers["id"]).or_quarantine(), column("at").fresh("20d"))
    clock = SimulatedClock(NOW)
    db = Database(f"sqlite:///{tmp_path}/flyball.db")
    data = DataService(db, Journal(db, clock), clock, LocalBlobStore(tmp_path / "blobs"), tmp_path)
    snapshot = data.snapshot(orders)
    report = data.check(snapshot, orders.expectations)
    assert (report.passed, report.quarantined) == (True, 1)
    assert data.read(snapshot.id, without_quarantined=orders.expectations).collect()["customer"].to_list() == [
        1,
        2,
        None,
    ]
    clock.advance_to(NOW + timedelta(days=9))
    assert [found.rule.column for found in data.check(snapshot, orders.expectations).failures] == ["at"]
    pl.DataFrame({"id": [1, 2, 9]}).write_parquet(tmp_path / "customers.parquet")
    assert data.check(snapshot, orders.expectations).quarantined == 0


@pytest.mark.parametrize(
    ("demanded", "reason"),
    [
        (pl.col("x"), "it gives Int64 instead of true or false"),
        (pl.col("x") + 1, "it gives Int64 instead of true or false"),
        (pl.col("x").str.len_chars() > 1, ""),
        (pl.col("s").str.to_integer(strict=True) > 0, "pars|conver"),
    ],
)
@pytest.mark.parametrize("of", ["rows", "table"])
def test_an_expression_that_tells_nothing_is_named(demanded: pl.Expr, reason: str, of: Any) -> None:
    frame = pl.DataFrame({"x": [1, 2], "s": ["1", "many"]})
    with pytest.raises(ExpressionFailedError, match=rf"'my rule' cannot be judged: .*(?:{reason})") as caught:
        report_of(frame, column("x").not_null(), expression("my rule", demanded, of=of))
    assert "\n" not in caught.value.message


def test_the_column_in_which_values_must_occur_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1]}).write_parquet(tmp_path / "customers.parquet")
    ORDERS.write_parquet(tmp_path / "orders.parquet")
    customers, orders = Table("customers.parquet", name="customers"), Table("orders.parquet", name="orders")
    orders.expect(column("customer").references(customers["ids"]))
    db = Database(f"sqlite:///{tmp_path}/flyball.db")
    clock = SimulatedClock(NOW)
    data = DataService(db, Journal(db, clock), clock, LocalBlobStore(tmp_path / "blobs"), tmp_path)
    with pytest.raises(
        NotFoundError, match="the table 'customers', in which values must occur, is named 'ids'; did you"
    ):
        data.check(data.snapshot(orders), orders.expectations)
