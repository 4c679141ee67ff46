"""Makes the example's history: orders and deliveries of a hundred days. Replace both files by your own data.

In the last third of the time the restaurants grow busier: a model that is never retrained falls behind.
"""

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

FIRST_DAY = datetime(2026, 1, 1)
DAYS, ORDERS_PER_DAY, RESTAURANTS = 100, 20, 12
BUSIER_FROM = 66


def make(folder: Path, seed: int = 1) -> None:
    """Write orders.csv and deliveries.csv; the same seed gives the same rows."""
    dice = random.Random(seed)
    cooking = [dice.uniform(8, 24) for _ in range(RESTAURANTS)]
    orders, deliveries = [], []
    for number in range(DAYS * ORDERS_PER_DAY):
        day = number // ORDERS_PER_DAY
        hour = min(max(dice.gauss(18, 2.5), 11), 22.9)
        at = FIRST_DAY + timedelta(days=day, hours=hour, seconds=dice.randrange(60))
        which, distance, items = dice.randrange(RESTAURANTS), dice.uniform(0.4, 9), 1 + int(dice.expovariate(0.6))
        busy = 8 * (17.5 < hour < 20.5) * (1.6 if at.weekday() >= 4 else 1)
        if day >= BUSIER_FROM:
            busy = busy * 1.8 + 0.9 * items
        minutes = 4 + cooking[which] + 2.6 * distance + 1.2 * items + busy + dice.gauss(0, 4)
        minutes = max(round(minutes, 1), 6)
        order = number + 1
        orders.append((order, which + 1, at, f"{distance:.1f}", items))
        deliveries.append((order, which + 1, at + timedelta(minutes=minutes), minutes))
    _write(folder / "orders.csv", "order_id,restaurant_id,ordered_at,distance_km,items", orders, by=2)
    _write(folder / "deliveries.csv", "order_id,restaurant_id,delivered_at,minutes", deliveries, by=2)


def _write(path: Path, header: str, rows: list[tuple], by: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        for row in sorted(rows, key=lambda row: row[by]):
            writer.writerow([f"{cell:%Y-%m-%dT%H:%M:%S}" if isinstance(cell, datetime) else cell for cell in row])


if __name__ == "__main__":
    make(Path(__file__).parent / "data")
