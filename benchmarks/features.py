"""Features: joins and the online store, beside Feast 0.67 and the limits of what lies below. Prints one JSON line.

Run all cases, or some of them: ``python -m benchmarks.features [CASE]…``. Each takes less than four minutes. Feast's
figures come from ``.peers/feast`` (``make peers``); Redis from Debian's package redis-server.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

# Name → (module, function): called with an empty folder, it returns its figures.
CASES: dict[str, tuple[str, str]] = {
    "joins": ("joins", "small"),
    "joins_large": ("joins", "large"),
    "joins_hundred": ("joins", "hundred"),
    "aggregates": ("aggregates", "grow"),
    "read": ("online", "read"),
    "write": ("online", "write"),
    "materialise": ("online", "materialise"),
    "http": ("wire", "http"),
    "start": ("starting", "start"),
}


def main(names: Sequence[str]) -> None:
    told: dict[str, Any] = {"benchmark": "features"}
    for name in names or CASES:
        module, function = CASES[name]
        case: Callable[[Path], dict[str, Any]] = getattr(import_module(f"benchmarks.feature_cases.{module}"), function)
        with tempfile.TemporaryDirectory() as folder:
            told[name] = case(Path(folder))
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
