"""Where the servers listen, and how that is written."""

from importlib.util import find_spec


def host_of_url(host: str) -> str:
    """Return a host as it is written in an address: one of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def find_grpc_port(port: int, setting: int) -> int | None:
    """Return the port of inference over gRPC; None where it is turned off or not installed.

    Args:
        port: The control plane's port.
        setting: The setting ``grpc_port``: 0 means two above ``port``, less turns it off.
    """
    if setting < 0 or find_spec("grpc") is None:
        return None
    return setting or port + 2
