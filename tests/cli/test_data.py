"""flyball data: what a person sees of a project's tables."""

import json
from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import Command
from tests.stories.tiny import add_arrivals


def test_tables_are_listed_and_shown(trained: Path, flyball: Command) -> None:
    said = flyball(trained, "data", "ls")
    assert said.status == 0
    assert "arrivals: " in said.out
    assert "rows in snapshot" in said.out
    shown = flyball(trained, "data", "show", "parcels")
    assert "  weight_kg: float" in shown.out
    assert "1 snapshots" in shown.out


def test_a_diff_tells_which_rows_came_and_which_values_changed(trained: Path, flyball: Command, tmp_path: Path) -> None:
    flyball(trained, "snapshot", "parcels")
    path = trained / "data" / "parcels.csv"
    lines = path.read_text().splitlines()
    fields = lines[1].split(",")
    fields[3] = "19.5"
    path.write_text(
        "\n".join(
            [
                lines[0],
                ",".join(fields),
                *lines[3:],
                *[line.replace(line.split(",")[0], "9001", 1) for line in lines[2:3]],
            ]
        )
        + "\n"
    )
    flyball(trained, "snapshot", "parcels")
    said = flyball(trained, "data", "diff", "parcels", "--html", str(tmp_path / "diff.html"))
    assert said.status == 0, said.err
    assert "1 came, 1 went, 1 changed" in said.out
    assert "weight_kg changed in 1 rows" in said.out
    assert "<svg" in (tmp_path / "diff.html").read_text()
    as_json = json.loads(flyball(trained, "data", "diff", "parcels", "--json").out)
    assert as_json["changes"]["columns"] == {"weight_kg": 1}


def test_months_of_one_table_are_compared(trained: Path, flyball: Command) -> None:
    said = flyball(trained, "data", "diff", "parcels", "2000", "2001..2999")
    assert "2000 (0 rows) against 2001..2999 (600 rows)" in said.out
    refused = flyball(trained, "data", "diff", "parcels", "previous")
    assert (refused.status, "no snapshot before the last one" in refused.err) == (1, True)


def test_proposed_expectations_can_be_pasted_and_hold(trained: Path, flyball: Command) -> None:
    said = flyball(trained, "data", "infer", "parcels")
    assert said.status == 0
    assert 'fb.column("rush").not_null().between(0, 1),' in said.out
    project = trained / "project.py"
    project.write_text(project.read_text() + "\n\n" + said.out)
    checked = flyball(trained, "data", "check", "parcels")
    assert (checked.status, "parcels: passed" in checked.out) == (0, True)


def test_a_broken_check_says_what_changed_since_the_one_before(trained: Path, flyball: Command, tmp_path: Path) -> None:
    project = trained / "project.py"
    project.write_text(project.read_text() + '\n\narrivals.expect(fb.column("late").is_in([0, 1]))\n')
    assert flyball(trained, "data", "check", "arrivals").status == 0
    add_arrivals(trained, [(1, 2, 7)])
    said = flyball(trained, "data", "check", "arrivals", "--html", str(tmp_path / "report.html"))
    assert said.status == 1
    assert "broken: late must be one of 0, 1, but 7 was given" in said.out
    assert "fails" in (tmp_path / "report.html").read_text()


def test_a_profile_is_a_page_of_its_own(trained: Path, flyball: Command, tmp_path: Path) -> None:
    said = flyball(trained, "data", "profile", "parcels", "--html", str(tmp_path / "p.html"))
    assert said.status == 0
    page = (tmp_path / "p.html").read_text()
    assert page.count("class='card'") == 5
    assert "http" not in page
    assert "<p>datetime, " in page
    assert "Int64" not in page


def test_leaks_are_told_by_the_command_and_by_the_run_and_may_fail_a_gate(trained: Path, flyball: Command) -> None:
    assert flyball(trained, "data", "leaks", "training").out.startswith("training: no leak suspected in ")
    arrivals = pl.read_csv(trained / "data" / "arrivals.csv").select("parcel_id", fee=pl.col("late") * 25 + 3)
    parcels = pl.read_csv(trained / "data" / "parcels.csv").join(arrivals, on="parcel_id", how="left")
    parcels.write_csv(trained / "data" / "parcels.csv")
    flyball(trained, "snapshot", "parcels", "--accept-schema-change")
    said = flyball(trained, "data", "leaks", "training")
    assert said.status == 1
    assert "proxy: fee alone tells late nearly without fault (AUC 1.000)" in said.out
    project = trained / "project.py"
    project.write_text(project.read_text().replace("gates=[", "gates=[fb.no_leaks(), "))
    ran = flyball(trained, "run", "training")
    assert "leak? proxy: fee alone tells late" in ran.out
    assert "leaks" in ran.out.partition("version lateness/2 is rejected")[2]


def test_a_step_between_the_rows_and_their_split_is_pointed_out(trained: Path, flyball: Command) -> None:
    project = trained / "project.py"
    text = project.read_text()
    scale = "@fb.step\ndef scale(data: fb.TrainingSet) -> fb.TrainingSet:\n    return data\n\n\n@fb.pipeline\n"
    text = text.replace("@fb.pipeline\n", scale, 1).replace("fb.split(data", "fb.split(scale(data)", 1)
    project.write_text(text)
    said = flyball(trained, "data", "leaks", "training")
    assert (said.status, "fitted-before-split: the step 'scale' works on the rows before" in said.out) == (1, True)


def test_a_sample_runs_the_same_pipeline_in_a_home_of_its_own(trained: Path, flyball: Command) -> None:
    said = flyball(trained, "run", "training", "--sample", "50%")
    assert said.status == 0, said.err
    assert "version lateness/1" in said.out
    home = trained / ".flyball" / "samples" / "50%"
    shown = flyball(trained, "data", "show", "parcels", "--home", str(home))
    rows = int(shown.out.rpartition(" rows,")[0].rpartition(" ")[2].replace(",", ""))
    assert 50 < rows < 550
    assert flyball(trained, "run", "training", "--sample", "none").status == 1


def test_a_sample_keeps_the_same_entities_of_every_table() -> None:
    from flyball.domain.data.samples import sample_rows
    from flyball.domain.data.tables import Entity, Table

    shop = Entity("shop")
    numbers = pl.DataFrame({"shop": range(10_000), "x": 1.0})
    texts = numbers.with_columns(pl.col("shop").cast(pl.String)).reverse()
    kept = [
        set(frame.filter(sample_rows(Table("t.csv", entity=shop), 0.1))["shop"].cast(pl.Int64))
        for frame in (numbers, texts)
    ]
    assert kept[0] == kept[1]
    assert 850 < len(kept[0]) < 1150
    assert sorted(kept[0])[:6] == [5, 12, 16, 30, 35, 43], "another release must keep the same ones"
    whole = numbers.lazy().filter(sample_rows(Table("t.csv", entity=shop), 0.2)).collect(engine="streaming")
    assert kept[0] < set(whole["shop"])


def test_previous_is_the_state_before_the_present_one_however_often_it_is_asked(
    trained: Path, flyball: Command
) -> None:
    flyball(trained, "snapshot", "parcels")
    path = trained / "data" / "parcels.csv"
    whole = path.read_text().splitlines()
    path.write_text("\n".join(whole[:-3]) + "\n")
    for _ in range(2):  # the first time, nobody has seen the present state before
        said = flyball(trained, "data", "diff", "parcels")
        assert "0 came, 3 went, 0 changed" in said.out
    assert "3 came, 0 went, 0 changed" in flyball(trained, "data", "diff", "parcels", "now", "previous").out
    path.write_text("\n".join(whole) + "\n")  # back to a state that has a snapshot already
    assert "3 came, 0 went, 0 changed" in flyball(trained, "data", "diff", "parcels").out


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("profile", "parcels", "1999"), "the table 'parcels' has no rows of 1999"),
        (("infer", "parcels", "1999-12"), "the table 'parcels' has no rows of 1999-12"),
        (("profile", "parcels", "9999"), "the table 'parcels' has no rows of 9999"),
        (("profile", "parcels", "2026-13"), "'2026-13' is no year, month or day"),
        (("diff", "parcels", "2026-02..2026-01", "now"), "the period 2026-02..2026-01 ends before it begins"),
        (("diff", "parcels", "zz", "now"), "no snapshot of the table 'parcels' has an id that begins with 'zz'"),
    ],
)
def test_rows_that_are_not_there_are_not_looked_at(
    trained: Path, flyball: Command, asked: tuple[str, ...], words: str
) -> None:
    refused = flyball(trained, "data", *asked)
    assert (refused.status, words in refused.err) == (1, True), refused.err


def test_a_key_that_is_given_twice_is_refused(trained: Path, flyball: Command) -> None:
    refused = flyball(trained, "features", "get", "any", "--key", "k=1", "--key", "k=2")
    assert (refused.status, "k is given twice" in refused.err) == (2, True), refused.err
