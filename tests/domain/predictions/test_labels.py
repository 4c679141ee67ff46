from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flyball.core.clock import SimulatedClock
from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.domain.features.labels import LabelRule
from flyball.domain.journal.service import Journal
from flyball.domain.predictions.labels import GivenLabel, LabelValueError
from flyball.domain.predictions.service import PredictionService
from flyball.storage.db import Database

BY_ENTITY = LabelRule(
    spine="applications",
    table="outcomes",
    column="defaulted",
    match="entity",
    keys=("customer_id",),
    spine_time="applied_at",
    label_time="observed_at",
    label_known="known_at",
)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def seal(service: PredictionService) -> None:
    service.log.rotate()
    service.seal()


def outcomes(*rows: tuple[int, Any, Any, Any]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema=["customer_id", "defaulted", "observed_at", "known_at"],
        orient="row",
        strict=False,
    )


def test_a_label_by_id_reaches_open_and_sealed_predictions(
    service: PredictionService, new_record: Any, clock: SimulatedClock
) -> None:
    first, second = new_record(1), new_record(2)
    service.log.append("credit", [first])
    seal(service)
    service.log.append("credit", [second])
    service.add_label(first.id, True)
    service.add_label(second.id, False)
    seal(service)
    rows = service.labelled("credit")
    assert rows.select("id", "prediction", "label").rows() == [(first.id, 0.25, 1.0), (second.id, 0.25, 0.0)]
    assert rows["label_known_at"].to_list() == [clock.now()] * 2


def test_corrections_keep_what_was_known_then(
    service: PredictionService, new_record: Any, clock: SimulatedClock
) -> None:
    record, start = new_record(), clock.now()
    service.log.append("credit", [record])
    seal(service)
    service.add_label(record.id, 0, known_at=start + DAY)
    service.add_label(record.id, 1, known_at=start + 3 * DAY)
    service.add_label(record.id, None, known_at=start + 5 * DAY)
    clock.advance(10 * DAY)

    def known(days: int) -> list[float]:
        return service.labelled("credit", as_of=start + days * DAY)["label"].to_list()

    assert [known(days) for days in (0, 1, 2, 3, 4, 5)] == [[], [0.0], [0.0], [1.0], [1.0], []]
    assert service.labelled("credit").is_empty()
    assert [version.value for version in service.list_label_versions(record.id)] == [0.0, 1.0, None]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1], {"a": 1}, b"x"])
def test_a_value_that_is_no_label_is_refused(service: PredictionService, new_record: Any, value: Any) -> None:
    record = new_record()
    service.log.append("credit", [record])
    with pytest.raises(LabelValueError, match="finite number"):
        service.add_label(record.id, value)


def test_text_among_numbers_is_refused(service: PredictionService, new_record: Any) -> None:
    records = [new_record(number) for number in range(2)]
    service.log.append("credit", records)
    service.add_label(records[0].id, 1)
    with pytest.raises(LabelValueError, match="are numbers, but 'yes' was given"):
        service.add_label(records[1].id, "yes")


def test_the_first_label_must_be_of_the_kind_that_the_model_was_trained_on(
    db: Database, clock: SimulatedClock, tmp_path: Path, new_record: Any
) -> None:
    service = PredictionService(
        db, Journal(db, clock), clock, tmp_path / "predictions", label_type_of={"credit-risk/3": "bool"}.get
    )
    record = new_record(version="credit-risk/3")
    service.log.append("credit", [record])
    with pytest.raises(LabelValueError, match="are numbers, but 'yes' was given"):
        service.add_label(record.id, "yes")
    report = service.add_labels([GivenLabel(prediction_id=record.id, value="yes")])
    assert (report.added, [found.message for found in report.refused]) == (
        0,
        ["the labels of 'credit' are numbers, but 'yes' was given"],
    )
    assert service.add_label(record.id, True).value == 1.0


def test_text_labels_come_back_as_text(service: PredictionService, new_record: Any) -> None:
    record = new_record()
    service.log.append("credit", [record])
    service.add_label(record.id, 'gr"ün')
    seal(service)
    assert service.labelled("credit")["label"].to_list() == ['gr"ün']


def test_a_label_for_an_unknown_prediction_is_refused(service: PredictionService) -> None:
    with pytest.raises(NotFoundError, match="no prediction has the id 'nothing'"):
        service.add_label("nothing", 1)


def test_of_many_labels_the_bad_are_named_and_the_good_are_kept(service: PredictionService, new_record: Any) -> None:
    sealed, answered = new_record(1), new_record(2)
    service.log.append("credit", [sealed])
    seal(service)
    service.log.append("credit", [answered])
    report = service.add_labels(
        [
            GivenLabel(prediction_id=sealed.id, value=1),
            GivenLabel(prediction_id="unknown", value=1),
            GivenLabel(prediction_id=answered.id, value=float("nan")),
            GivenLabel(prediction_id=answered.id, value=0),
        ]
    )
    assert (report.added, report.known_already) == (2, 0)
    assert [(problem.label, problem.message.split(",")[0]) for problem in report.refused] == [
        ("unknown", "no prediction has the id 'unknown'"),
        (answered.id, "a label must be a finite number"),
    ]


def test_an_entitys_label_belongs_to_its_newest_prediction_before_it(
    service: PredictionService, new_record: Any, clock: SimulatedClock
) -> None:
    start = clock.now()
    early, late, other = new_record(1), new_record(1, after=HOUR), new_record(2, after=HOUR)
    service.log.append("credit", [early, late])
    seal(service)
    service.log.append("credit", [other])
    clock.advance(DAY)
    report = service.ingest_labels(
        "credit",
        BY_ENTITY,
        outcomes(
            (1, True, start + HOUR, start + 2 * HOUR),
            (2, False, start + 2 * HOUR, start + 2 * HOUR),
            (2, True, start, start),
            (3, True, start + HOUR, start + HOUR),
        ),
    )
    assert (report.added, report.unmatched) == (2, 2)
    seal(service)
    assert service.labelled("credit").select("id", "label").rows() == [(late.id, 1.0), (other.id, 0.0)]


def test_reading_the_same_rows_again_adds_nothing(
    service: PredictionService, new_record: Any, clock: SimulatedClock
) -> None:
    service.log.append("credit", [new_record()])
    rows = outcomes((1, True, clock.now(), clock.now()))
    assert service.ingest_labels("credit", BY_ENTITY, rows).added == 1
    before = service.last_label_seq()
    seal(service)
    report = service.ingest_labels("credit", BY_ENTITY, rows)
    assert (report.added, report.known_already, service.last_label_seq()) == (0, 1, before)


def test_a_key_finds_every_prediction_of_its_row(service: PredictionService, new_record: Any) -> None:
    rule = LabelRule(spine="sales", table="prices", column="price", match="key", keys=("sale_id", "part"))
    keys = [{"sale_id": 7, "part": "a"}, {"sale_id": 7, "part": "a"}, {"sale_id": 7, "part": "b"}]
    records = [new_record(1, key=key) for key in keys]
    service.log.append("credit", records)
    seal(service)
    report = service.ingest_labels("credit", rule, pl.DataFrame({"part": ["a"], "sale_id": [7.0], "price": [5]}))
    assert report.added == 2
    assert service.labelled("credit")["id"].to_list() == [record.id for record in records[:2]]


def test_without_keys_the_rows_time_decides(service: PredictionService, new_record: Any, clock: SimulatedClock) -> None:
    rule = LabelRule(
        spine="rides", table="rides", column="count", match="row", keys=(), spine_time="hour", label_time="hour"
    )
    records = [new_record(entity={}, after=number * HOUR) for number in range(3)]
    service.log.append("credit", records)
    seal(service)
    rows = pl.DataFrame({"hour": [clock.now() + HOUR, clock.now() + 9 * HOUR], "count": [3, 4]})
    report = service.ingest_labels("credit", rule, rows)
    assert (report.added, report.unmatched) == (1, 1)
    assert service.labelled("credit", as_of=clock.now() + DAY)["id"].to_list() == [records[1].id]
    assert service.labelled("credit", as_of=clock.now() + DAY, known_after=clock.now())["id"].to_list() == [
        records[1].id
    ]
    assert service.labelled("credit", as_of=clock.now() + DAY, known_after=clock.now() + DAY).is_empty()


def test_open_outcomes_are_no_news_and_nan_is_named(
    service: PredictionService, new_record: Any, clock: SimulatedClock
) -> None:
    service.log.append("credit", [new_record(1), new_record(2)])
    now = clock.now()
    report = service.ingest_labels("credit", BY_ENTITY, outcomes((1, None, now, now), (2, float("nan"), now, now)))
    assert (report.added, report.known_already) == (0, 0)
    assert report.refused[0].label.startswith("customer_id=2, at 2026-03-01")


def test_a_table_without_the_rules_columns_is_refused(service: PredictionService) -> None:
    with pytest.raises(InvalidInputError, match="lack the columns 'defaulted'"):
        service.ingest_labels("credit", BY_ENTITY, outcomes().drop("defaulted"))


def test_a_shadow_shares_the_label_of_what_was_answered(service: PredictionService, new_record: Any) -> None:
    answered = new_record(1)
    beside = new_record(1, variant="shadow", version="credit-risk/2", shadow_of=answered.id, prediction=0.75)
    quarantined = new_record(1, status="quarantined", prediction=None)
    service.log.append("credit", [answered, beside, quarantined])
    seal(service)
    service.add_label(beside.id, 1)
    assert service.labelled("credit")["prediction"].to_list() == [0.25]
    assert service.labelled("credit", version="credit-risk/2")["prediction"].to_list() == [0.75]
    assert service.labelled("credit", variant="shadow")["label"].to_list() == [1.0]


def test_only_predictions_of_the_time_asked_for_are_returned(
    service: PredictionService, new_record: Any, clock: SimulatedClock
) -> None:
    records = [new_record(number, after=number * DAY) for number in range(4)]
    service.log.append("credit", records)
    seal(service)
    for record in records:
        service.add_label(record.id, 1)
    rows = service.labelled("credit", since=clock.now() + DAY, until=clock.now() + 3 * DAY)
    assert rows["id"].to_list() == [record.id for record in records[1:3]]
