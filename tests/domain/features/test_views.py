"""Features are declared on functions, which stay functions."""

import subprocess
import sys
from datetime import timedelta

import polars as pl
import pytest

from flyball.core.errors import InvalidInputError
from flyball.domain.data.tables import Entity, Table
from flyball.domain.features.views import features, request_features

customer = Entity("customer_id")
payments = Table("payments.parquet", entity=customer, time="paid_at", name="payments")


@features(payments, ttl="180d")
def payment_behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
    """How somebody pays."""
    return rows.with_columns(late=pl.col("days") > 30)


@request_features(payments)
def affordability(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(ratio=pl.col("days") / 2)


def test_a_view_is_named_after_its_function_and_knows_keys_time_and_ttl() -> None:
    assert payment_behaviour.name == "payment_behaviour"
    assert payment_behaviour.keys == ("customer_id",)
    assert payment_behaviour.time == "paid_at"
    assert payment_behaviour.ttl == timedelta(days=180)
    assert payment_behaviour.__doc__ == "How somebody pays."


def test_declared_functions_are_called_as_before() -> None:
    rows = pl.LazyFrame({"days": [20, 40]})
    assert payment_behaviour(rows).collect()["late"].to_list() == [False, True]
    assert affordability(rows).collect()["ratio"].to_list() == [10, 20]


def test_a_view_needs_an_entity_and_a_time() -> None:
    with pytest.raises(InvalidInputError, match=r"'view' needs a table with an entity and a time.* no time"):
        features(Table("x.csv", entity=customer), name="view")(lambda rows: rows)
    with pytest.raises(InvalidInputError, match="no entity"):
        features(Table("x.csv", time="at"), name="view")(lambda rows: rows)


@pytest.mark.parametrize("decorator", [features, request_features])
def test_a_decorator_without_its_table_says_how_to_write_it(decorator) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match="was given the function 'affordability'") as caught:

        @decorator
        def affordability(rows: pl.LazyFrame) -> pl.LazyFrame:
            return rows

    assert "(payments) above the function" in caught.value.hint


def test_a_ttl_that_is_no_duration_names_the_view() -> None:
    with pytest.raises(InvalidInputError, match="ttl of feature view 'view' '180 moons'"):
        features(payments, ttl="180 moons", name="view")(lambda rows: rows)


def test_a_name_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'a@b' cannot name feature view"):
        features(payments, name="a@b")(lambda rows: rows)


def test_declaring_loads_no_dataframe_library() -> None:
    code = (
        "import sys; import flyball.domain.features.views, flyball.domain.features.training_sets; "
        "print([name for name in ('polars', 'numpy', 'lmdb') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
