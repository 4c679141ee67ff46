"""Talks to the `flyball up` of a home: it has everything loaded, so it answers sooner than a new process could."""

import http.client
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from flyball.core.encoding import from_json, to_json
from flyball.core.errors import BackendUnavailableError, FlyballError

ADDRESS_FILE = "up.json"
_TIMEOUT_S = 30.0
_PROBE_S = 2.0


class RefusedError(FlyballError):
    """The running system refused a request; its problem document says why."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem), hint=str(problem.get("hint") or ""))
        self.code = str(problem.get("type", self.code)).removeprefix("urn:flyball:")


def find_running(home: Path) -> tuple[str, int] | None:
    """Return host and control port of the ``flyball up`` that runs on a home, if one does.

    One that was killed leaves its address behind, and its process number may be somebody else's by now: it has to
    take a connection, too.
    """
    try:
        address = msgspec.json.decode((home / ADDRESS_FILE).read_bytes())
        os.kill(address["pid"], 0)
        socket.create_connection((address["host"], address["port"]), _PROBE_S).close()
    except (OSError, msgspec.DecodeError):
        return None
    return address["host"], address["port"]


def ask(address: tuple[str, int], path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Post a JSON object and return the answer.

    Raises:
        RefusedError: It was refused, in the words of the other side.
        BackendUnavailableError: Nobody answers.
    """
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", path, to_json(body), {"content-type": "application/json"})
        response = connection.getresponse()
        answer = from_json(response.read(), dict[str, Any], what="the answer of flyball up")
    except OSError as error:
        raise BackendUnavailableError(
            f"the flyball up at {address[0]}:{address[1]} does not answer: {error}", hint="Try again in a moment."
        ) from error
    finally:
        connection.close()
    if response.status >= 400:
        raise RefusedError(answer)
    return answer
