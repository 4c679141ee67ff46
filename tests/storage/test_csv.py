"""CSV files: no value is changed by reading it, and a line that does not fit is named."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from flyball.core.errors import InvalidInputError
from flyball.storage.tables.csv import LineUnreadableError, scan_csv


def read(folder: Path, text: str, **options: object) -> pl.DataFrame:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return scan_csv([path], nulls=[], what="table", **options).collect()  # type: ignore[arg-type]


def test_what_would_change_as_a_number_stays_text(tmp_path: Path) -> None:
    rows = "zip,phone,sku,amount,count,huge,flag,none\n01234,+49,1.0,-0.5,-3,12345678901234567890123,true,\n"
    frame = read(tmp_path, rows + "99999,+50,007,1e3,0,5,False,\n")
    assert frame.rows()[0] == ("01234", "+49", "1.0", -0.5, -3, 1.2345678901234568e22, True, None)
    assert frame.schema == pl.Schema(
        {
            "zip": pl.String(),
            "phone": pl.String(),
            "sku": pl.String(),
            "amount": pl.Float64(),
            "count": pl.Int64(),
            "huge": pl.Float64(),
            "flag": pl.Boolean(),
            "none": pl.String(),
        }
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n4,5\n", "line 3 of 'table.csv' has 1 fields instead of 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3 of 'table.csv' has 3 fields instead of 2"),
        ('a,b\n"x\ny",2\n"1,2"\n', "line 4 of 'table.csv' has 1 fields instead of 2"),
    ],
)
def test_a_line_of_another_length_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(LineUnreadableError, match=words):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b\n"x, y",2\nz,3\n', [("x, y", 2), ("z", 3)]),
        ('a,b\n"x\ny",2\n', [("x\ny", 2)]),
        ('a,b\n"say ""hi"", you",2\n', [('say "hi", you', 2)]),
        ("a,b\r\n1,2\r\n", [(1, 2)]),
    ],
)
def test_quoted_commas_and_line_ends_are_no_bad_lines(tmp_path: Path, text: str, rows: list[tuple[object]]) -> None:
    assert read(tmp_path, text).rows() == rows


def test_one_text_among_many_numbers_is_named_by_its_row(tmp_path: Path) -> None:
    rows = "".join(f"{number},{number / 7}\n" for number in range(5000))
    with pytest.raises(
        LineUnreadableError, match="row 5,001 holds 'oops' in column 'b', where nearly all 5,001 values"
    ):
        read(tmp_path, "a,b\n" + rows + "5000,oops\n")
    assert read(tmp_path, "a,b\n" + rows + "5000,oops\n", types={"b": "string"})["b"][-1] == "oops"
    # a column of which some part is no number holds text
    assert read(tmp_path, "a,b\n" + rows + "1,C12\n" * 20)["b"].dtype == pl.String


def test_a_declared_type_that_a_value_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(LineUnreadableError, match=r"row 2 holds '1.5' in column 'a'"):
        read(tmp_path, "a\n1\n1.5\n", types={"a": "int"})


@pytest.mark.slow
def test_five_million_rows_with_one_bad_line_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    block = "".join(f"{number},{number % 97:05d},{number / 7:.3f},text {number}\n" for number in range(100_000))
    with path.open("w", encoding="utf-8") as file:
        file.write("id,zip,amount,name\n")
        for _ in range(50):
            file.write(block)
        file.write("17,00001,oops,text\n")
    # The peak of the process's own memory: what getrusage gives begins with that of the process it was forked from.
    program = f"""
from pathlib import Path
from flyball.storage.tables.csv import LineUnreadableError, scan_csv
try:
    scan_csv([Path({str(path)!r})], nulls=[], what="table")
except LineUnreadableError as error:
    print(error.message)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    said, peak_mb = done.stdout.splitlines()
    assert "row 5,000,001 holds 'oops' in column 'amount'" in said
    assert int(peak_mb) < 700


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,name\n1,caf\xe9\n", "line 2 of 'table.csv' is not text in UTF-8 .*at byte 6"),
        (b"id,na\xefve\n1,x\n", "line 1 of 'table.csv' is not text in UTF-8"),
        (b"id,name\n" + b"1,plain\n" * 20_000 + b"2,na\xefve\n", "line 20,002 of 'table.csv' is not text in UTF-8"),
        ("id,name\n1,x\n".encode("utf-16"), "line 1 of 'table.csv' is not text in UTF-8"),
    ],
)
def test_a_file_in_another_encoding_is_refused_by_its_first_such_line(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(LineUnreadableError, match=words) as caught:
        scan_csv([path], nulls=[], what="table").collect()
    assert caught.value.hint is not None
    assert "iconv" in caught.value.hint


def test_of_several_files_the_one_in_another_encoding_is_named(tmp_path: Path) -> None:
    for name, text in (("a.csv", b"id\n1\n"), ("b.csv", b"id\n\xe9\n")):
        (tmp_path / name).write_bytes(text)
    with pytest.raises(LineUnreadableError, match=r"line 2 of 'b\.csv'"):
        scan_csv([tmp_path / "a.csv", tmp_path / "b.csv"], nulls=[], what="table")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_fields_that_are_divided_by_something_else_are_not_read_as_one_column(tmp_path: Path, separator: str) -> None:
    with pytest.raises(InvalidInputError, match="instead of commas"):
        read(tmp_path, f"id{separator}name\n1{separator}x\n")
    assert read(tmp_path, f"a{separator}b\nno such sign\n").columns == [f"a{separator}b"]


def test_a_wrong_value_in_a_column_of_any_name_is_refused_by_its_row(tmp_path: Path) -> None:
    for name in ("number", "line", "given"):
        text = f"{name}\n" + "1\n" * 2_000 + "many\n"
        with pytest.raises(LineUnreadableError, match=f"row 2,001 holds 'many' in column '{name}'"):
            read(tmp_path, text)
