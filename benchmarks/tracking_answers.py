"""What a client itself needs for an answer: Flyball's answers are kept, and given again by a server that does nothing.

Part of `benchmarks.tracking`: what is measured of the server ``empty`` after ``flyball`` is the client's own part.
"""

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

A = "/api/2.0/mlflow/"
PAGES_OF_RUNS = (10, 100, 1_000, 5_000)
CHOSEN = {"filter": "metrics.m3 > 100 and params.p1 != '7'", "order_by": ["metrics.m5 DESC"]}


def record(url: str, folder: Path, cases: list[str]) -> None:
    """Keep the answers that the client reads in some cases."""
    folder.mkdir(parents=True, exist_ok=True)
    if "search" in cases:
        place = _place(url, "filled")
        for size in PAGES_OF_RUNS:
            chosen = CHOSEN if size == 100 else {}  # as tracking_client.py asks for them
            body = _ask(url, "runs/search", {"experiment_ids": [place], "max_results": size} | chosen)
            _keep(folder, "runs/search", str(size), body)
    if "points" in cases:
        found = json.loads(_ask(url, "runs/search", {"experiment_ids": [_place(url, "points")]}))
        fields = {"run_id": found["runs"][0]["info"]["run_id"], "metric_key": "loss"}
        token = ""
        while True:
            body = _ask(url, "metrics/get-history?" + urlencode(fields | ({"page_token": token} if token else {})))
            _keep(folder, "metrics/get-history", token, body)
            token = json.loads(body).get("next_page_token", "")
            if not token:
                break


def replay(url: str, folder: Path) -> set[str]:
    """Give the kept answers to the empty server; return the cases that it can then stand for."""
    if not (folder / "answers.json").exists():
        return set()
    kept: dict[str, list[str]] = json.loads((folder / "answers.json").read_text())
    for name, (address, page) in kept.items():
        query = urlencode({"of": address, "page": page})
        request = urllib.request.Request(f"{url}/answers?{query}", (folder / name).read_bytes(), method="PUT")
        urllib.request.urlopen(request).read()
    asked = {address for address, _ in kept.values()}
    return ({"search", "pandas"} if "runs/search" in asked else set()) | (
        {"points"} if "metrics/get-history" in asked else set()
    )


def _keep(folder: Path, address: str, page: str, body: bytes) -> None:
    index = folder / "answers.json"
    kept: dict[str, list[str]] = json.loads(index.read_text()) if index.exists() else {}
    name = f"{len(kept)}.json.body"
    (folder / name).write_bytes(body)
    index.write_text(json.dumps(kept | {name: [address, page]}))


def _place(url: str, name: str) -> str:
    found: str = json.loads(_ask(url, f"experiments/get-by-name?experiment_name={name}"))["experiment"]["experiment_id"]
    return found


def _ask(url: str, path: str, fields: dict[str, Any] | None = None) -> bytes:
    body = None if fields is None else json.dumps(fields).encode()
    request = urllib.request.Request(url + A + path, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        content: bytes = answer.read()
        return content
