"""Answers that tell what each feature added to them."""

from pathlib import Path

import polars as pl
import pytest

from flyball.domain.predictions.frames import FRAME_SCHEMA, from_row, scan_sealed, to_frame
from flyball.domain.serving.explaining import TooManyExplainedError
from flyball.domain.serving.rollouts import canary

from .conftest import REQUEST, House, breaks, fixed


def burdened(frame: pl.DataFrame) -> pl.Series:
    return frame["burden"] / 1000 + frame["late"] / 10


def test_an_explanation_sums_to_the_answer_and_is_logged_with_it(house: House) -> None:
    house.go_live(house.add(1, burdened))
    [answer] = house.plane.predict("credit", [REQUEST], explain=True)
    found = answer.explanation
    assert found is not None and found.total == pytest.approx(answer.prediction)
    assert found.attributions["burden"] == pytest.approx(1000 / 12 / 1000)
    assert found.attributions["late"] == pytest.approx(0.1)
    assert (found.attributions["income"], found.scale, found.method) == (0.0, "probability", "sampled")
    assert house.predictions.get(answer.prediction_id).explanation == found
    house.sealed()
    assert house.predictions.get(answer.prediction_id).explanation == found


def test_nothing_is_explained_that_nobody_asked_for(house: House) -> None:
    house.go_live(house.add(1, burdened))
    [answer] = house.plane.predict("credit", [REQUEST])
    assert answer.explanation is None
    assert house.sealed()["explanation"].to_list() == [None]


def test_rows_without_a_prediction_have_no_explanation(house: House) -> None:
    house.go_live(house.add(1, burdened))
    good, bad = house.plane.predict("credit", [REQUEST, {**REQUEST, "income": -1.0}], explain=True)
    assert good.explanation is not None
    assert (bad.status, bad.explanation) == ("refused", None)


def test_each_row_is_explained_by_the_version_that_answered_it(house: House) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.start(house.add(2, fixed(0.75)), canary(0.5, "1h"))
    answers = house.plane.predict("credit", [{**REQUEST, "customer_id": n} for n in range(50)], explain=True)
    assert {answer.variant for answer in answers} == {"live", "canary"}
    assert all(answer.explanation and answer.explanation.base == answer.prediction for answer in answers)


def test_an_explainer_that_fails_does_not_take_the_answer_with_it(house: House) -> None:
    ref = house.add(1, fixed(0.25))
    house.versions[ref] = type(house.versions[ref])(
        **{name: getattr(house.versions[ref], name) for name in house.versions[ref].__struct_fields__}
        | {"find_explainer": lambda: breaks("no such thing")(None)}  # type: ignore[arg-type]
    )
    house.go_live(ref)
    [answer] = house.plane.predict("credit", [REQUEST], explain=True)
    assert (answer.prediction, answer.explanation) == (0.25, None)
    assert "no such thing" in answer.warnings[0].message


def test_more_rows_than_are_explained_at_once_are_refused(house: House) -> None:
    house.go_live(house.add(1, burdened))
    with pytest.raises(TooManyExplainedError, match="at most 100 rows"):
        house.plane.predict("credit", [REQUEST] * 101, explain=True)


def test_of_several_classes_the_likeliest_is_explained(house: House) -> None:
    def shares(frame: pl.DataFrame) -> object:
        return [[0.2, 0.5, 0.3]] * frame.height

    house.go_live(house.add(1, shares, classes=("a", "b", "c")))
    [answer] = house.plane.predict("credit", [REQUEST], explain=True)
    assert answer.prediction == "b"
    assert answer.explanation is not None
    assert (answer.explanation.of_class, answer.explanation.base) == ("b", pytest.approx(0.5))


def test_files_sealed_by_an_earlier_release_are_read(house: House, tmp_path: Path) -> None:
    house.go_live(house.add(1, fixed(0.25)))
    house.plane.predict("credit", [REQUEST, REQUEST])
    rows = house.sealed()
    rows.drop("propensity", "node", "explanation").write_parquet(tmp_path / "old.parquet")
    rows.write_parquet(tmp_path / "new.parquet")
    both = scan_sealed([tmp_path / "old.parquet", tmp_path / "new.parquet"]).collect()
    assert both.columns == list(FRAME_SCHEMA)
    assert both.height == 4
    assert scan_sealed([tmp_path / "old.parquet"]).collect().height == 2
    records = [from_row(row) for row in pl.read_parquet(tmp_path / "old.parquet").iter_rows(named=True)]
    assert to_frame(records).equals(rows)
