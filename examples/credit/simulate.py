"""A lender's year and a half, made up: applications, payments and late outcomes from one seed.

`write` puts three tables into a folder: the half year of 2024 that trains the first model, and the whole of 2025:

* ``applications.parquet``: about 100 a day; what the customer asks for, and who asks.
* ``payments``: a Delta table of instalments on earlier loans. ``recorded_at`` says when the bank knew of one: most are
  booked within a day, some weeks later, and bad payers are booked late more often, so a careless join sees the future.
* ``outcomes.parquet``: did the customer default? Known 30 to 60 days after the application; a few are corrected later.

The year holds four surprises:

* May: a retail partner sends many customers with low incomes (the mix of incomes shifts).
* 16 to 20 June: the collections system moves. Its first delivery repeats the outcomes of 90 days with the flag swapped,
  and so it goes on until all is delivered again on 21 June: what we knew then and what we know now differ.
* 4 to 13 August: most incomes arrive per month instead of per year, and the partner's in cents.
* October: a payment holiday by law. Late instalments stop meaning anything, heavy loans start to (the concept changes).
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

START = datetime(2024, 7, 1)
LIVE = datetime(2025, 1, 1)
END = datetime(2026, 1, 1)
INCOME_SHIFT = datetime(2025, 5, 1)
SWAPPED_OUTCOMES = (datetime(2025, 6, 16), datetime(2025, 6, 21))
REPEATED = timedelta(days=90)
BROKEN_INCOME = (datetime(2025, 8, 4), datetime(2025, 8, 14))
PAYMENT_HOLIDAY = datetime(2025, 10, 1)

CUSTOMERS = 8_000
BORROWERS = 4_000  # the customers with an earlier loan, and so with payments
APPLICATIONS_PER_DAY = 100
INSTALMENTS = 25
CHANNELS = ("branch", "web", "partner")
REGIONS = ("north", "east", "south", "west")
_US = 1_000_000
_DAY_US = 86_400 * _US

Array = npt.NDArray[Any]


def write(folder: Path, seed: int = 7) -> None:
    """Write the three tables into ``folder``; the same seed gives the same rows."""
    rng = np.random.default_rng(seed)
    customers = _customers(rng)
    applications = _applications(rng, customers)
    outcomes = _outcomes(rng, applications)
    folder.mkdir(parents=True, exist_ok=True)
    reported = applications.select(
        "application_id", "customer_id", "applied_at", "income", "amount", "term_months", "age", "region", "channel"
    )
    _break_incomes(rng, reported).write_parquet(folder / "applications.parquet")
    _payments(rng, customers).write_delta(str(folder / "payments"), mode="overwrite")
    outcomes.write_parquet(folder / "outcomes.parquet")


def _customers(rng: np.random.Generator) -> dict[str, Array]:
    """People with an income, an age and a discipline of paying (the share of instalments paid late)."""
    return {
        "income": np.exp(rng.normal(10.55, 0.42, CUSTOMERS)),
        "age": rng.integers(20, 74, CUSTOMERS),
        "region": rng.integers(0, len(REGIONS), CUSTOMERS),
        "lateness": rng.beta(0.55, 1.6, CUSTOMERS),
    }


def _applications(rng: np.random.Generator, customers: dict[str, Array]) -> pl.DataFrame:
    """Who applies when, for what, and the true chance of default."""
    days = (END - START).days
    weekday = (np.arange(days) + START.weekday()) % 7
    per_day = rng.poisson(APPLICATIONS_PER_DAY * np.where(weekday < 5, 1.1, 0.75))
    n = int(per_day.sum())
    seconds = np.repeat(np.arange(days), per_day) * 86_400 + np.clip(rng.normal(14, 3.5, n), 0, 23.99) * 3600
    at = np.sort((seconds * _US).astype(np.int64)) + _us(START)

    shifted = at >= _us(INCOME_SHIFT)
    channel = np.where(rng.random(n) < np.where(shifted, 0.42, 0.12), 2, rng.integers(0, 2, n))
    # Borrowers come back more often than strangers come.
    who = np.where(rng.random(n) < 0.75, rng.integers(0, BORROWERS, n), rng.integers(BORROWERS, CUSTOMERS, n))
    income = customers["income"][who] * np.exp(rng.normal(0, 0.08, n))
    income = np.where(shifted & (channel == 2), income * rng.uniform(0.4, 0.7, n), income)
    term = rng.choice([12, 24, 36, 60], n, p=[0.25, 0.3, 0.3, 0.15])
    amount = np.clip(np.exp(rng.normal(8.9, 0.55, n)) * np.sqrt(term / 24), 500, 60_000)
    burden = np.clip(amount / term / (income / 12), 0, 0.8)
    age, late = customers["age"][who], np.where(who < BORROWERS, customers["lateness"][who], 0.25)

    poor = np.clip((22_000 - income) / 8_000, 0, 1)
    before = -5.7 + 6.5 * burden + 5.5 * late - 0.06 * (age - 45) + 2.0 * poor * (age > 45) - 0.4 * (channel == 0)
    after = -6.0 + 9.0 * burden + 0.09 * (age - 45) + 1.8 * (channel == 1) + 0.8 * (term >= 36)
    logit = np.where(at >= _us(PAYMENT_HOLIDAY), after, before)
    return pl.DataFrame(
        {
            "application_id": np.arange(1, n + 1),
            "customer_id": who + 10_000,
            "applied_at": at,
            "income": income.round(2),
            "amount": amount.round(-1),
            "term_months": term,
            "age": age,
            "region": np.asarray(REGIONS)[customers["region"][who]],
            "channel": np.asarray(CHANNELS)[channel],
            "chance": 1 / (1 + np.exp(-logit)),
        }
    ).with_columns(_instant("applied_at"))


def _break_incomes(rng: np.random.Generator, applications: pl.DataFrame) -> pl.DataFrame:
    """For ten days of August most incomes come per month, and the partner's in cents."""
    broken = pl.col("applied_at").is_between(*(pl.lit(at).dt.replace_time_zone("UTC") for at in BROKEN_INCOME))
    hit = pl.Series(rng.random(len(applications)) < 0.85)
    wrong = pl.when(pl.col("channel") == "partner").then(pl.col("income") * 100).otherwise(pl.col("income") / 12)
    return applications.with_columns(
        pl.when(broken & hit).then(wrong).otherwise(pl.col("income")).round(2).alias("income")
    )


def _outcomes(rng: np.random.Generator, applications: pl.DataFrame) -> pl.DataFrame:
    """What became of each application, as it was reported, and the corrections that followed."""
    n = len(applications)
    defaulted = rng.random(n) < applications["chance"].to_numpy()
    delay_days = 30 + np.minimum(rng.exponential(5, n), 30)
    at = applications["applied_at"].to_physical().to_numpy() + (delay_days * _DAY_US).astype(np.int64)
    slip = rng.random(n) < 0.004
    swapped = (at >= _us(SWAPPED_OUTCOMES[0])) & (at < _us(SWAPPED_OUTCOMES[1]))
    reports = pl.DataFrame(
        {
            "application_id": applications["application_id"],
            "customer_id": applications["customer_id"],
            "observed_at": at,
            "defaulted": defaulted ^ slip ^ swapped,
        }
    )
    repeated = (at >= _us(SWAPPED_OUTCOMES[0] - REPEATED)) & (at < _us(SWAPPED_OUTCOMES[1]))
    corrected_at = np.where(slip, at + (rng.uniform(5, 20, n) * _DAY_US).astype(np.int64), at)
    deliveries = [
        reports,
        _again(reports, repeated & ~swapped, _delivered(rng, SWAPPED_OUTCOMES[0], n), ~defaulted),
        _again(reports, repeated, _delivered(rng, SWAPPED_OUTCOMES[1], n), defaulted),
        _again(reports, slip & ~repeated, corrected_at, defaulted),
    ]
    return (
        pl.concat(deliveries)
        .sort("observed_at")
        .with_columns(_instant("observed_at"), pl.col("defaulted").cast(pl.Int8))
    )


def _delivered(rng: np.random.Generator, day: datetime, n: int) -> Array:
    """Instants in the small hours of a day, when systems deliver."""
    return _us(day) + (rng.uniform(1, 3, n) * _DAY_US / 24).astype(np.int64)


def _again(reports: pl.DataFrame, which: Array, at: Array, defaulted: Array) -> pl.DataFrame:
    """Some of the outcomes, reported once more."""
    changed = reports.with_columns(pl.Series("observed_at", at), pl.Series("defaulted", defaulted))
    return changed.filter(pl.Series(which))


def _payments(rng: np.random.Generator, customers: dict[str, Array]) -> pl.DataFrame:
    """Monthly instalments for each earlier loan, with when each was paid and when the bank knew."""
    first_due = _us(START) + (rng.uniform(-210, -180, BORROWERS) * _DAY_US).astype(np.int64)
    n = BORROWERS * INSTALMENTS
    who = np.repeat(np.arange(BORROWERS), INSTALMENTS)
    due = np.repeat(first_due, INSTALMENTS) + np.tile(np.arange(INSTALMENTS), BORROWERS) * 30 * _DAY_US
    late = rng.random(n) < customers["lateness"][who]
    days_late = np.where(late, 3 + rng.exponential(12, n), 0).round()
    paid = due + ((days_late + rng.uniform(-1, 0, n)) * _DAY_US).astype(np.int64)
    slow = rng.random(n) < np.where(late, 0.2, 0.05)
    recorded = paid + (np.where(slow, rng.uniform(3, 25, n), rng.uniform(0, 0.5, n)) * _DAY_US).astype(np.int64)
    return (
        pl.DataFrame(
            {
                "customer_id": who + 10_000,
                "paid_at": paid,
                "recorded_at": recorded,
                "amount": (customers["income"][who] * rng.uniform(0.004, 0.012, n)).round(2),
                "days_late": days_late.astype(np.int32),
            }
        )
        .filter(pl.col("recorded_at") < _us(END))
        .sort("paid_at", "customer_id")
        .with_columns(_instant("paid_at"), _instant("recorded_at"))
    )


def _us(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def _instant(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Datetime("us", "UTC"))


if __name__ == "__main__":
    write(Path(__file__).parent / "data", *(int(seed) for seed in sys.argv[1:]))
