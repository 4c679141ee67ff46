"""Writes the tiny project: its file, and made-up data that ends at the present."""

import csv
import random
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_PROJECT = Path(__file__).parent / "projects" / "tiny" / "project.py"
_ENDPOINT = "parcel = fb.Endpoint("
REQUEST: dict[str, Any] = {"parcel_id": 900_001, "shop_id": 3, "weight_kg": 7.5, "rush": 1}
PARCELS = 600
SHOPS = 6
DAYS = 60


def make_request(number: int) -> dict[str, Any]:
    """Return the request of a number; its parcel is not in the data."""
    return REQUEST | {"parcel_id": 900_000 + number, "shop_id": number % SHOPS, "rush": number % 2}


def make_lone_request(number: int) -> dict[str, Any]:
    """Return the request of a number, from a shop of its own: of the six shops of the data, a canary may get none."""
    return make_request(number) | {"shop_id": 1_000 + number}


def write_tiny(folder: Path, *, endpoint: str | None = None, settings: str = "") -> Path:
    """Write the project with its data into a folder and return the folder.

    Args:
        folder: Made if it is not there.
        endpoint: Replaces the project's last part, from the endpoint on.
        settings: What ``flyball.toml`` says; there is none without.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_PROJECT, folder / "project.py")
    if endpoint is not None:
        replace_endpoint(folder, endpoint)
    if settings:
        (folder / "flyball.toml").write_text(settings, encoding="utf-8")
    write_data(folder / "data")
    return folder


def replace_endpoint(folder: Path, endpoint: str) -> None:
    """Let the project end with another endpoint."""
    file = folder / "project.py"
    kept = file.read_text(encoding="utf-8").partition(_ENDPOINT)[0]
    file.write_text(f"{kept}{endpoint}\n", encoding="utf-8")


def write_data(folder: Path, *, seed: int = 1) -> None:
    """Write parcels.csv and arrivals.csv: sixty days up to now; heavy, unhurried parcels of bad shops are late."""
    dice = random.Random(seed)
    begin = datetime.now(UTC) - timedelta(days=DAYS)
    parcels, arrivals = [], []
    for number in range(PARCELS):
        sent = begin + timedelta(days=DAYS * number / PARCELS)
        shop, weight, rush = dice.randrange(SHOPS), dice.uniform(0, 20), dice.randrange(2)
        late = int(dice.random() < 0.1 + 0.03 * weight + 0.04 * shop - 0.15 * rush)
        arrived = sent + timedelta(hours=dice.uniform(1, 20))
        parcels.append([number, shop, _instant(sent), f"{weight:.2f}", rush])
        if arrived < begin + timedelta(days=DAYS):
            arrivals.append([number, shop, _instant(arrived), late])
    arrivals.sort(key=lambda row: str(row[2]))
    write_csv(folder / "parcels.csv", "parcel_id,shop_id,sent_at,weight_kg,rush", parcels)
    write_csv(folder / "arrivals.csv", "parcel_id,shop_id,arrived_at,late", arrivals)


def write_csv(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)


def add_arrivals(folder: Path, rows: Sequence[tuple[int, int, int]]) -> None:
    """Append outcomes of (parcel, shop, late), which arrived just now."""
    with (folder / "data" / "arrivals.csv").open("a", newline="", encoding="utf-8") as file:
        for parcel, shop, late in rows:
            file.write(f"{parcel},{shop},{_instant(datetime.now(UTC))},{late}\n")


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"
