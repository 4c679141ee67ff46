"""Feast's own client with its ``remote`` online store, unmodified."""

import json
import subprocess
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.peers import peer_python
from tests.server.feast.conftest import NOW, Gateway

pytestmark = pytest.mark.slow
_SCRIPT = Path(__file__).parent / "clients" / "remote_store.py"


def test_feasts_remote_store_reads_and_writes(gateway: Gateway, tmp_path: Path) -> None:
    add_payment(gateway, customer=21, days=55)
    done = subprocess.run(
        [peer_python("feast"), _SCRIPT, tmp_path, gateway.address],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    seen = (NOW - timedelta(days=1)).timestamp()
    assert told["by_name"] == {
        "customer_id": [1, 2, 999],
        "days": [10, None, None],
        "share": [0.5, "NaN", None],  # as Feast's own server writes it; its client takes it as it comes
        "shop": ["a", "b", None],
        "is_late": [True, False, None],
        "seen": [seen, seen, None],
    }
    assert told["by_service"]["days"] == [10]
    assert told["full_names"] == {"customer_id": [1], "behaviour__days": [10]}
    assert told["outdated"] == {"customer_id": [3, 1], "days": [None, 10]}
    assert told["text_key"] == {"customer_id": ["1"], "days": [10]}
    assert (told["not_yet"]["days"], told["materialised"]["days"]) == ([None], [55])
    assert "no feature view is named 'nothing'" in told["unknown_view"]
    assert told["written"] == {
        "customer_id": [1, 7], "days": [77, 78], "shop": ["x", "y"], "seen": [told["now"], told["now"]],
    }  # fmt: skip
    assert told["pushed"] == {"customer_id": [1, 7], "days": [80, 81]}
    assert told["late"] == told["pushed"]  # the newest row counts, whatever came last
    assert "nothing" in told["unknown_feature"]


def add_payment(gateway: Gateway, *, customer: int, days: int) -> None:
    """Let the table have one row more; nothing brings it online by itself."""
    path = gateway.root / "payments.parquet"
    rows = pl.read_parquet(path)
    more = rows.head(1).with_columns(
        customer_id=pl.lit(customer, pl.Int64), days=pl.lit(days, pl.Int64), paid_at=pl.lit(NOW).dt.cast_time_unit("us")
    )
    pl.concat([rows, more]).write_parquet(gateway.root / "new.parquet")
    (gateway.root / "new.parquet").replace(path)
