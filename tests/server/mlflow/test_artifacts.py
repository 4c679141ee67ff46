"""Artifacts over HTTP, in process: paths, ranges, broken-off uploads, uploads in parts."""

import asyncio
import hashlib
import json
import random
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyball.domain.tracking.artifacts import parse_place
from flyball.server.mlflow.app import MlflowApp
from flyball.server.mlflow.downloads import read_range
from flyball.workspace.home import Home
from tests.server.mlflow.calls import A, Calls, Reply

F = "/api/2.0/mlflow-artifacts/"
FILES = F + "artifacts"


@pytest.fixture
def root(calls: Calls) -> str:
    """The folder of a run's artifacts."""
    run_id = calls.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    return f"0/{run_id}/artifacts"


def put(calls: Calls, path: str, data: bytes) -> Reply:
    return calls.send("PUT", f"{FILES}/{quote(path)}", data, "application/octet-stream")


def get(calls: Calls, path: str, **headers: str) -> Reply:
    return calls.send("GET", f"{FILES}/{quote(path)}", headers=headers)


def names(calls: Calls, path: str) -> list[tuple[str, bool, int | None]]:
    reply = calls.send("GET", f"{FILES}?path={quote(path)}")
    assert reply.status == 200, reply.body
    return [(file["path"], file["is_dir"], file.get("file_size")) for file in reply.json()["files"]]


def test_what_is_put_comes_back(calls: Calls, root: str) -> None:
    assert put(calls, f"{root}/a.txt", b"text").json() == {}
    reply = get(calls, f"{root}/a.txt")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"text", "4")
    assert reply.headers["etag"] == f'"{hashlib.sha256(b"text").hexdigest()}"'
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_folders_are_listed_with_their_sizes(calls: Calls, root: str) -> None:
    for path in ("b.bin", "plots/roc.png", "plots/deep/er/x", "größe/naïve 名.txt", "100%.txt"):
        put(calls, f"{root}/{path}", path.encode())
    found = names(calls, root)
    assert found == [("100%.txt", False, 8), ("b.bin", False, 5), ("größe", True, None), ("plots", True, None)]
    assert names(calls, f"{root}/plots") == [("deep", True, None), ("roc.png", False, 13)]
    assert names(calls, f"{root}/größe") == [("naïve 名.txt", False, 22)]
    assert get(calls, f"{root}/größe/naïve 名.txt").body == "größe/naïve 名.txt".encode()
    assert names(calls, f"{root}/b.bin") == names(calls, f"{root}/nothing") == []


def test_a_run_lists_what_it_has(calls: Calls, root: str) -> None:
    run_id = root.split("/")[1]
    put(calls, f"{root}/plots/roc.png", b"x")
    found = calls.get("artifacts/list", run_id=run_id, path="plots")
    assert found["root_uri"] == f"mlflow-artifacts:/{root}"
    assert found["files"] == [{"path": "plots/roc.png", "is_dir": False, "file_size": 1}]
    reply = calls.send("GET", f"/get-artifact?run_uuid={run_id}&path=plots/roc.png")
    assert (reply.body, reply.headers["content-type"]) == (b"x", "image/png")


def test_files_of_own_runs_are_served_too(calls: Calls, home: Home) -> None:
    run = home.tracking.start_run("training")
    home.tracking.log_artifact(run.id, "plots/roc.png", b"curve")
    root = calls.get("runs/get", run_id=run.id)["run"]["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    assert names(calls, f"{root}/plots") == [("roc.png", False, 5)]
    assert get(calls, f"{root}/plots/roc.png").body == b"curve"


def test_what_is_deleted_is_gone(calls: Calls, root: str) -> None:
    for path in ("a", "b/c", "b/d/e", "bb/f"):
        put(calls, f"{root}/{path}", b"x")
    assert calls.send("DELETE", f"{FILES}/{root}/b").status == 200
    assert names(calls, root) == [("a", False, 1), ("bb", True, None)]
    assert calls.send("DELETE", f"{FILES}/{root}/b").error == (404, "RESOURCE_DOES_NOT_EXIST")
    assert calls.send("DELETE", f"{FILES}/{root}").status == 200
    assert names(calls, root) == []
    assert calls.send("DELETE", f"{FILES}/").error == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "//etc/passwd",
        "%2e%2e/x",
        "%252e%252e%252fx",
        "a%00b",
        "a%2500b",
        "a%5cb",
        "a\\b",
        "C:/x",
        "%2Fetc",
        "a%0Ab",
        "x" * 2_001,
        "",
        ".",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(calls: Calls, root: str, path: str) -> None:
    wanted = (400, "INVALID_PARAMETER_VALUE")
    for folder in (root, "plain"):
        # An address that begins with a slash is one below the folder; by itself it is absolute.
        address = f"{folder}/{path}" if not path.lower().startswith(("/", "c:", "%2f")) else path
        if path not in ("", ".") or folder == root:
            assert calls.send("PUT", f"{FILES}/{address}", b"x", "text/plain").error == wanted
            assert calls.send("GET", f"{FILES}/{address}").error == wanted
    if path not in ("", "."):
        assert calls.send("GET", f"{FILES}?path={path}").error == wanted
        assert calls.send("GET", f"{A}artifacts/list?run_id={root.split('/')[1]}&path={path}").error == wanted


def test_a_file_and_a_folder_cannot_have_one_name(calls: Calls, root: str) -> None:
    put(calls, f"{root}/a/b/c", b"x")
    for path in ("a", "a/b", "a/b/c/d", "a/b/c/d/e"):
        assert put(calls, f"{root}/{path}", b"y").error == (400, "INVALID_PARAMETER_VALUE")
    assert get(calls, f"{root}/a/b").error == (404, "RESOURCE_DOES_NOT_EXIST")
    assert get(calls, f"{root}/a/b/c").body == b"x"


def test_a_deleted_run_takes_no_files(calls: Calls, root: str) -> None:
    calls.post("runs/delete", run_id=root.split("/")[1])
    assert put(calls, f"{root}/a", b"x").error == (400, "INVALID_PARAMETER_VALUE")
    assert names(calls, root) == []


def test_a_download_resumes(calls: Calls, root: str) -> None:
    data = bytes(range(256)) * 20_000
    put(calls, f"{root}/a", data)
    etag = get(calls, f"{root}/a").headers["etag"]
    for wanted, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=3000000-", 3_000_000, 5_120_000),
        ("bytes=-5", 5_119_995, 5_120_000),
        ("bytes=5-99999999", 5, 5_120_000),
    ):
        reply = get(calls, f"{root}/a", range=wanted)
        assert (reply.status, reply.body) == (206, data[start:stop])
        assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/5120000"
    assert get(calls, f"{root}/a", **{"range": "bytes=5-", "if-range": etag}).status == 206
    changed = get(calls, f"{root}/a", **{"range": "bytes=5-", "if-range": '"other"'})
    assert (changed.status, changed.body) == (200, data)
    beyond = get(calls, f"{root}/a", range="bytes=5120000-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */5120000")
    assert get(calls, f"{root}/a", **{"if-none-match": f'"x", {etag}'}).status == 304


@given(st.binary(max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_parts_of_a_file_make_the_whole(data: bytes, first: int, second: int) -> None:
    size = len(data)
    head, tail = read_range(f"bytes=0-{first}", size), read_range(f"bytes={first + 1}-", size)
    assert head is not None
    assert tail is not None
    assert data[slice(*head)] + data[slice(*tail)] == data
    suffix = read_range(f"bytes=-{second}", size)
    assert suffix is not None
    assert data[slice(*suffix)] == (data[-second:] if second else b"")


def test_an_upload_that_breaks_off_leaves_nothing(home: Home, root: str) -> None:
    app = MlflowApp(home)
    pieces: list[Any] = [{"type": "http.request", "body": b"x" * 3_000_000, "more_body": True}] * 2
    pieces.append({"type": "http.disconnect"})

    async def receive() -> Any:
        return pieces.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    path = f"{FILES}/{root}/a"
    scope = {"type": "http", "method": "PUT", "path": path, "query_string": b"", "headers": []}
    asyncio.run(app(scope, receive, send))
    app.close()
    assert home.artifacts.list_folder(parse_place(root)) == []
    assert not [file for file in (home.home / "blobs").rglob("*") if file.is_file() and file.name[:6] != "chunks"]


def test_damage_on_disk_is_told_rather_than_sent(calls: Calls, home: Home, root: str) -> None:
    data = bytes(3_000_000)
    put(calls, f"{root}/a", data)
    path = home.blobs.path(hashlib.sha256(data).hexdigest())
    path.chmod(0o600)
    path.write_bytes(b"\1" + data[1:])
    with pytest.raises(Exception, match="damaged"):
        get(calls, f"{root}/a")


def begin(calls: Calls, root: str, parts: int) -> tuple[str, list[str]]:
    body = json.dumps({"path": "/home/ada/model.bin", "num_parts": parts}).encode()
    found = calls.send("POST", f"{F}mpu/create/{root}/models", body).json()
    return found["upload_id"], [part["url"].partition("test")[2] for part in found["credentials"]]


def finish(calls: Calls, root: str, upload_id: str, etags: list[str], what: str = "complete") -> Reply:
    parts = [{"part_number": number, "etag": etag} for number, etag in enumerate(etags, start=1)]
    body = {"path": "/home/ada/model.bin", "upload_id": upload_id, "parts": parts}
    return calls.send("POST", f"{F}mpu/{what}/{root}/models", json.dumps(body).encode())


def test_parts_become_a_file_when_they_are_complete(calls: Calls, home: Home, root: str) -> None:
    upload_id, urls = begin(calls, root, 3)
    parts = [b"one", b"two", b"three"]
    calls.send("PUT", urls[1], b"sent wrongly at first", "")
    etags = [calls.send("PUT", url, part, "").headers["etag"] for url, part in zip(urls, parts, strict=True)]
    assert names(calls, root) == []
    assert finish(calls, root, upload_id, etags[:2]).error == (400, "INVALID_PARAMETER_VALUE")
    assert finish(calls, root, upload_id, [*etags[:2], etags[0]]).error == (400, "INVALID_PARAMETER_VALUE")
    assert finish(calls, root, upload_id, etags).status == 200
    assert get(calls, f"{root}/models/model.bin").body == b"onetwothree"
    assert finish(calls, root, upload_id, etags).error == (404, "RESOURCE_DOES_NOT_EXIST")
    assert not list(home.blobs.uploads.iterdir())


def test_an_upload_in_parts_can_be_given_up(calls: Calls, home: Home, root: str) -> None:
    upload_id, urls = begin(calls, root, 1)
    calls.send("PUT", urls[0], b"x", "")
    assert calls.send("PUT", urls[0][:-1] + "2", b"x", "").error == (400, "INVALID_PARAMETER_VALUE")
    assert finish(calls, root, upload_id, [], "abort").status == 200
    assert calls.send("PUT", urls[0], b"x", "").error == (404, "RESOURCE_DOES_NOT_EXIST")
    assert not list(home.blobs.uploads.iterdir())
    for bad in ("..", "x" * 32, "0" * 32):
        assert finish(calls, root, bad, []).error == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_part_that_comes_while_the_upload_is_given_up_is_refused(calls: Calls, home: Home, root: str) -> None:
    upload_id, urls = begin(calls, root, 1)
    app = MlflowApp(home)
    pieces: list[Any] = [{"type": "http.request", "body": b"x" * 3_000_000, "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:
        if pieces:
            return pieces.pop()
        shutil.rmtree(home.blobs.uploads / upload_id)
        return {"type": "http.request", "body": b"y", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(
        app({"type": "http", "method": "PUT", "path": urls[0], "query_string": b"", "headers": []}, receive, send)
    )
    app.close()
    assert (sent[0]["status"], json.loads(sent[1]["body"])["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert not list(home.blobs.uploads.iterdir())


def test_an_upload_that_is_completed_twice_at_once_becomes_one_file(calls: Calls, root: str) -> None:
    for _ in range(5):
        upload_id, urls = begin(calls, root, 2)
        etags = [calls.send("PUT", url, b"x" * 600_000, "").headers["etag"] for url in urls]
        with ThreadPoolExecutor(4) as threads:
            replies = list(threads.map(finish, [calls] * 4, [root] * 4, [upload_id] * 4, [etags] * 4))
        assert 200 in [reply.status for reply in replies]
        assert {reply.status for reply in replies} <= {200, 400, 404}
        assert len(get(calls, f"{root}/models/model.bin").body) == 1_200_000


@pytest.mark.parametrize("fields", [{"num_parts": 1}, {"path": "a", "num_parts": 0}, {"path": "..", "num_parts": 1}])
def test_an_upload_that_cannot_be_is_refused(calls: Calls, root: str, fields: dict[str, Any]) -> None:
    reply = calls.send("POST", f"{F}mpu/create/{root}", json.dumps(fields).encode())
    assert reply.error == (400, "INVALID_PARAMETER_VALUE")


def test_the_server_says_what_it_can(calls: Calls) -> None:
    info = calls.send("GET", "/api/3.0/mlflow/server-info").json()
    assert info["artifact_serving_enabled"] is True
    assert info["workspaces_enabled"] is False


@pytest.mark.parametrize("size", [1_000, 200_000, 900_000, 3_000_000])
def test_an_upload_for_which_there_is_no_room_is_refused_at_once_and_leaves_nothing(
    calls: Calls, root: str, home: Home, size: int
) -> None:
    # What is refused after its last byte must not wait for more of it, which never comes.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 500, limits[1]))
    try:
        reply = put(calls, f"{root}/a.bin", random.Random(1).randbytes(size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert reply.status == 500 and "no space is left" in reply.json()["message"]
    assert names(calls, root) == []
    assert not [path for path in (home.home / "blobs").rglob("*") if path.is_file() and "chunks" not in path.name]
    assert put(calls, f"{root}/a.bin", b"x").status == 200
