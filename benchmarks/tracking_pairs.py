"""Single calls of MLflow's client, asked of several servers in turn: what else the machine does meets all of them.

Prints one JSON line: for each call the medians in milliseconds of Flyball, of ``mlflow server`` tuned, and of a server
that gives Flyball's answers without doing anything; how many times as fast as tuned Flyball is, and how many times as
fast any server could be with this client. ``python -m benchmarks.tracking_pairs [postgresql]``; needs ``make peers``.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.servers import postgresql

from benchmarks import tracking_answers
from benchmarks.tracking import BENCH, ask, python, serving

CLIENT = Path(__file__).parent / "peers" / "tracking_pairs.py"
SERVERS = ("flyball", "tuned", "empty")


def main(database: str) -> None:
    BENCH.mkdir(exist_ok=True)
    with ExitStack() as stack:
        cluster = stack.enter_context(postgresql(settings=())) if database == "postgresql" else None
        urls = {}
        for name in SERVERS:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=BENCH)))
            address = cluster.new_database() if cluster and name != "empty" else ""
            if name == "tuned":
                address = address.replace("postgresql://", "postgresql+psycopg2://")
            urls[name], _ = stack.enter_context(serving(name, folder, address))
        answers = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=BENCH)))
        ask("models", urls["flyball"], [], tracking_answers.file_of(answers, "models"))
        tracking_answers.replay(urls["empty"], answers, "models")
        command = [python(), str(CLIENT), *(f"{name}={url}" for name, url in urls.items())]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    found = json.loads(done.stdout)
    for times in found.values():
        times["times_tuned"] = round(times["tuned"] / times["flyball"], 2)
        times["times_tuned_at_most"] = round(times["tuned"] / times["empty"], 2)
    print(json.dumps({"benchmark": "tracking_pairs", "database": database, "p50_ms": found}))


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["postgresql"]):
        sys.exit(__doc__)
    main("postgresql" if sys.argv[1:] else "sqlite")
