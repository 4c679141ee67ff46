"""Which process makes a run, so that one that died can be told from one that works."""

import os
from pathlib import Path

from flyball.core.processes import is_running


def this_process() -> str:
    """Return ``host pid start``, which no other process ever has."""
    return f"{os.uname().nodename} {os.getpid()} {_start(os.getpid())}"


def is_alive(process: str) -> bool:
    """Tell whether a process of `this_process` still works; one of another host counts as alive."""
    host, pid, start = process.split(" ")
    if host != (os.uname().nodename):
        return True
    return is_running(int(pid)) and _start(int(pid)) == start


def _start(pid: int) -> str:
    """Return the kernel's start tick of a process (field 22 of proc(5)'s stat), or ``-`` where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "-"
    return stat.rpartition(")")[2].split()[19]
