"""Where inference over gRPC listens."""

from importlib.util import find_spec


def find_grpc_port(port: int, setting: int) -> int | None:
    """Return the port of inference over gRPC; None where it is turned off or not installed.

    Args:
        port: The control plane's port.
        setting: The setting ``grpc_port``: 0 means two above ``port``, less turns it off.
    """
    if setting < 0 or find_spec("grpc") is None:
        return None
    return setting or port + 2
