"""Opens the online store that a setting names."""

from collections.abc import Callable
from pathlib import Path

from flyball.core.plugins import Plugins
from flyball.storage.online.port import OnlineStore

DEFAULT = "lmdb"
Opener = Callable[[str, Path, float], OnlineStore]


def open_online_store(url: str, home: Path, *, timeout_s: float) -> OnlineStore:
    """Return the online store of a setting.

    Args:
        url: Its scheme names an installed store: ``lmdb`` (in the home, or ``lmdb:///folder``), ``redis://host:port/0``.
        home: The project's home.
        timeout_s: How long a read waits for a server.

    Raises:
        UnknownNameError: No installed store has that name.
        PluginError: It cannot be loaded.
        InvalidInputError: The rest of the URL is wrong.
    """
    stores: Plugins[Opener] = Plugins("flyball.online", "online store")
    return stores.get(url.partition("://")[0])(url, home, timeout_s)
