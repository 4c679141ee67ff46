"""Opens the online store that a setting names."""

from pathlib import Path
from typing import Protocol

from flyball.core.plugins import Plugins
from flyball.storage.online.port import OnlineStore

DEFAULT = "lmdb"


class Opener(Protocol):
    """What an entry point of the group ``flyball.online`` names; see `open_online_store`."""

    def __call__(self, url: str, home: Path, timeout_s: float, *, is_synced: bool) -> OnlineStore:
        """Return the store of a URL."""
        ...


def open_online_store(url: str, home: Path, *, timeout_s: float, is_synced: bool = False) -> OnlineStore:
    """Return the online store of a setting.

    Args:
        url: Its scheme names an installed store: ``lmdb`` (in the home, or ``lmdb:///folder``), ``redis://host:port/0``.
        home: The project's home.
        timeout_s: How long a read waits for a server.
        is_synced: Whether a write waits for the disk; a server's own settings say that of its disk.

    Raises:
        UnknownNameError: No installed store has that name.
        PluginError: It cannot be loaded.
        InvalidInputError: The rest of the URL is wrong.
    """
    stores: Plugins[Opener] = Plugins("flyball.online", "online store")
    return stores.get(url.partition("://")[0])(url, home, timeout_s, is_synced=is_synced)
