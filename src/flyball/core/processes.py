"""Whether another process of this machine is still there."""

import os


def is_running(pid: int) -> bool:
    """Tell whether a process has this number now; numbers are used again, so it may be another than was meant."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
