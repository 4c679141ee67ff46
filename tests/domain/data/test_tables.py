"""Declaring data costs nothing and refuses what cannot be meant."""

import subprocess
import sys
from typing import Any

import pytest

from flyball.core.errors import InvalidInputError
from flyball.domain.data.tables import ColumnRef, Entity, Table


def test_declaring_imports_no_engine() -> None:
    script = (
        "import sys; from flyball.domain.data import tables, expectations, code;"
        "tables.Table('a.csv', entity=tables.Entity('id')).expect(expectations.column('x').between(0, 1));"
        "heavy = {'polars', 'numpy', 'pyarrow', 'deltalake', 'sqlite3'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_table_says_what_it_relies_on() -> None:
    table = Table("a.csv", entity=Entity("shop", "item"), time="at", known="seen", key="id", nulls="NA")
    assert table.required_columns == {"shop": "key", "item": "key", "id": "key", "at": "time", "seen": "known"}
    assert table.nulls == ("NA",)
    assert table.label == "table at 'a.csv'"
    table.name = "sales"
    assert table.label == "table 'sales'"


def test_a_column_is_referred_to_by_name() -> None:
    table = Table("a.csv", name="outcomes")
    assert table["defaulted"] == ColumnRef(table, "defaulted")
    assert table["defaulted"] != Table("a.csv", name="outcomes")["defaulted"]
    assert str(table["defaulted"]) == "outcomes.defaulted"


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Entity(),
        lambda: Entity("a", "a"),
        lambda: Entity(3),  # type: ignore[arg-type]
        lambda: Table(""),
        lambda: Table("a.csv", entity="customer"),  # type: ignore[arg-type]
        lambda: Table("a.csv", prepare=3),  # type: ignore[arg-type]
        lambda: Table("a.csv", key=["id", "id"]),
        lambda: Table("a.csv")[3],  # type: ignore[index]
        lambda: Table("a.csv").required_name,
    ],
)
def test_what_cannot_be_meant_is_refused(declare: Any) -> None:
    with pytest.raises(InvalidInputError):
        declare()


@pytest.mark.parametrize("name", ["../sales", "a/b", "a\\b", ".sales", "a\nb", 7])
def test_a_name_that_could_lead_out_of_a_folder_is_refused(name: Any) -> None:
    with pytest.raises(InvalidInputError, match="cannot name a table"):
        Table("a.csv", name=name)
    assert Table("a.csv", name="King County, größte").name == "King County, größte"
