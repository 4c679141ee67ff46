"""Run every benchmark, one after the other; each prints one JSON line: ``python -m benchmarks``."""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    failed = 0
    for script in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        failed += subprocess.run([sys.executable, "-m", f"benchmarks.{script.stem}"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
