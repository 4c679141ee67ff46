"""Bounds what a model can take of the machine's memory, so that it fails alone."""

import resource
from contextlib import suppress
from pathlib import Path

_MB = 1_000_000
_DATA_AND_STACK = 5
# Of 1,000: where the machine runs out of memory, the kernel ends these processes before those that keep the state.
_FIRST_TO_GO = 300


def limit_memory(more_mb: int) -> None:
    """Let this process take so much more memory than it has now; an allocation beyond that fails.

    Args:
        more_mb: Megabytes of memory of its own; no limit if it is 0. What is only reserved, such as room for the heaps
            of threads or for an online store to grow, does not count.
    """
    with suppress(OSError):  # not Linux, or not allowed: only the order of ends is another then
        Path("/proc/self/oom_score_adj").write_text(str(_FIRST_TO_GO), encoding="ascii")
    if more_mb <= 0:
        return
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[_DATA_AND_STACK])
    except OSError:  # not Linux: what it has now cannot be told
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = pages * resource.getpagesize() + more_mb * _MB
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
