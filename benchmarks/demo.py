"""How long `flyball demo` takes, whole process, on an installed Flyball: a year under three policies.

Prints one JSON line. Run with: python -m benchmarks.demo
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    flyball = str(Path(sys.executable).with_name("flyball"))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(
            [flyball, "demo", "--project", f"{folder}/demo", "--json"], check=True, capture_output=True
        )
        took_s = time.perf_counter() - start
    report = json.loads(done.stdout)
    figures = {
        policy["name"]: {
            "mean_auc": round(policy["mean_performance"], 4),
            "predictions": policy["predictions"],
            "retrainings": policy["retrainings"],
            "rollbacks": policy["rollbacks"],
            "training_s": round(policy["training_s"], 1),
        }
        for policy in report["policies"]
    }
    print(json.dumps({"benchmark": "demo", "took_s": round(took_s, 1), "policies": figures, "goal": {"took_s": 120}}))


if __name__ == "__main__":
    main()
