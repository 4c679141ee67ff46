"""What a client itself needs for an answer: Flyball's answers are kept, and given again by a server that does nothing.

Part of `benchmarks.tracking`: what is measured of the server ``empty`` after ``flyball`` is the client's own part.
"""

import urllib.request
from pathlib import Path

RECORDED = ("points", "search", "pandas", "models")
"""Cases whose answers the client reads; it does them once more to record them."""
UNREAD = ("log_metric", "log_batch", "runs_one_by_one", "runs_as_batch", "eight")
"""Cases for which any answer will do."""


def file_of(folder: Path, case: str) -> Path:
    """Return where the answers to a case are kept, one a line; see ``recording`` of the client."""
    return folder / f"{case}.jsonl"


def replay(url: str, folder: Path, case: str) -> bool:
    """Give the kept answers to the empty server; return whether it can then stand for the case."""
    kept = file_of(folder, case)
    if kept.exists():
        request = urllib.request.Request(f"{url}/answers", kept.read_bytes(), method="PUT")
        urllib.request.urlopen(request).read()
    return kept.exists() or case in UNREAD
