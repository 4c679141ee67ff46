"""Which boot of the machine this is: what was written since then cannot have been lost to a power cut."""

from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """Return what identifies this boot of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
