"""How long ``import flyball`` and ``flyball --help`` take, whole process, beside an empty Python process.

Prints one JSON line; times are the medians of 15 in milliseconds. Run with: python -m benchmarks.startup
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROUNDS = 15


def measure_ms(command: Sequence[str]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1000, 1)


def main() -> None:
    flyball = str(Path(sys.executable).with_name("flyball"))
    empty = measure_ms([sys.executable, "-c", "pass"])
    imported = measure_ms([sys.executable, "-c", "import flyball"])
    print(
        json.dumps(
            {
                "benchmark": "startup",
                "empty_python_ms": empty,
                "import_flyball_process_ms": imported,
                "import_flyball_ms": round(imported - empty, 1),
                "flyball_help_ms": measure_ms([flyball, "--help"]),
                "goal": {"import_flyball_ms": 100, "flyball_help_ms": 200},
            }
        )
    )


if __name__ == "__main__":
    main()
