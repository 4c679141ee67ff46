"""Sources are found, told apart and scanned without a word about what they mean."""

import os
import shutil
import time
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from flyball.core.durations import from_us
from flyball.core.errors import InvalidInputError
from flyball.storage.tables.csv import scan_csv
from flyball.storage.tables.delta import VersionMissingError, open_delta, scan_delta
from flyball.storage.tables.parquet import scan_parquet, with_partitions
from flyball.storage.tables.sources import DataFile, SourceMissingError, find_kind, fingerprint_source, list_files


def test_the_kind_is_told_by_suffix_or_by_what_a_folder_holds(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1]}).write_delta(str(tmp_path / "delta"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.csv").write_text("x\n1\n")
    assert find_kind(tmp_path / "delta", "table") == "delta"
    assert find_kind(tmp_path / "texts", "table") == "csv"
    assert find_kind(tmp_path / "a.CSV", "table") == "csv"
    assert find_kind(tmp_path / "*.parquet", "table") == "parquet"


def test_files_come_in_the_order_of_their_paths_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.parquet", "a/c.parquet", ".hidden.parquet", "_temporary/d.parquet", "a/_e.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [file.relative_to(tmp_path).as_posix() for file in list_files(tmp_path, "parquet", "table")]
    assert found == ["a/c.parquet", "b.parquet"]


def test_a_fingerprint_tells_a_rewrite_of_the_same_size(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n")
    before = fingerprint_source(path, "table")
    replacement = tmp_path / "b"
    replacement.write_text("x\n2\n")
    replacement.replace(path)
    assert fingerprint_source(path, "table") != before
    path.unlink()
    with pytest.raises(SourceMissingError):
        fingerprint_source(path, "table")


def test_the_types_of_a_csv_file_fit_every_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n" + "1,2,x\n" * 500 + "1.5,none,3\n")
    frame = scan_csv([path], nulls=["none"], what="table").collect()
    assert frame.schema == {"a": pl.Float64, "b": pl.Int64, "c": pl.String}
    assert frame.row(500) == (1.5, None, "3")


def test_partitions_that_look_like_numbers_are_numbers_only_if_all_do(tmp_path: Path) -> None:
    paths = [tmp_path / f"year={year}/zone={zone}/a.parquet" for year, zone in ((2025, "1"), (2026, "x%20y"))]
    assert [file.partition for file in with_partitions(paths, tmp_path)] == [
        {"year": 2025, "zone": "1"},
        {"year": 2026, "zone": "x y"},
    ]


def test_a_column_lacking_in_a_file_is_null_where_the_schema_has_it(tmp_path: Path) -> None:
    pl.DataFrame({"x": pl.Series([1], dtype=pl.Int32)}).write_parquet(tmp_path / "a.parquet")
    schema = pl.Schema({"day": pl.Date(), "x": pl.Int64(), "y": pl.String()})
    frame = scan_parquet([DataFile(tmp_path / "a.parquet", {"day": "2026-01-01"})], what="table", schema=schema)
    assert frame.collect().rows() == [(date(2026, 1, 1), 1, None)]
    assert frame.collect_schema() == schema


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(InvalidInputError, match="has the column 'a' more than once"):
        scan_csv([tmp_path / "a.csv"], nulls=[], what="table 't'")


def test_an_old_version_of_a_delta_table_can_be_scanned(tmp_path: Path) -> None:
    place = tmp_path / "delta"
    pl.DataFrame({"x": [1]}).write_delta(str(place))
    pl.DataFrame({"x": [2]}).write_delta(str(place), mode="append")
    found = open_delta(place, what="table")
    assert (found.version, found.is_plain, len(found.files)) == (1, True, 2)
    assert scan_delta(place, 0).collect()["x"].to_list() == [1]


def test_files_of_a_folder_come_before_those_of_one_whose_name_goes_on(tmp_path: Path) -> None:
    for name in ("a-b/x.parquet", "a/x.parquet", "d.parquet/part.parquet", "c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone.parquet").symlink_to("nowhere")
    expected = [tmp_path / name for name in ("a/x.parquet", "a-b/x.parquet", "c.parquet", "d.parquet/part.parquet")]
    assert list_files(tmp_path, "parquet", "table") == expected
    assert list_files(tmp_path / "**" / "*.parquet", "parquet", "table") == expected


def test_a_version_is_found_by_when_it_was_committed_also_in_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "prices"
    for number in range(3):
        pl.DataFrame({"x": [number]}).write_delta(str(path), mode="append")
        time.sleep(0.01)
    said_ms = {commit["version"]: commit["timestamp"] for commit in DeltaTable(str(path)).history()}
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    for file in (copy / "_delta_log").iterdir():
        os.utime(file, (0, 0))
    for place in (path, copy):
        for number, at_ms in said_ms.items():
            assert open_delta(place, what="table", version=from_us(at_ms * 1_000)).version == number
        with pytest.raises(VersionMissingError, match=r"no version of 1970-01-02.*its log begins at 20"):
            open_delta(place, what="table", version=from_us(86_400_000_000))
