"""Chooses a table's source by what the declaration says: the scheme of a URL, or what lies at a path."""

from functools import cache

from flyball.core.plugins import Plugins
from flyball.storage.tables.port import Asked, Opener, TableSource
from flyball.storage.tables.sources import find_kind
from flyball.storage.tables.urls import ANY

GROUP = "flyball.tables"
_FOLDER = "folder"


def choose_source(asked: Asked) -> TableSource:
    """Return the source that a declaration means.

    Raises:
        UnknownNameError: No installed source has the name of the URL's scheme.
        PluginError: It cannot be loaded.
        SourceMissingError: Nothing lies at the path.
        InvalidInputError: What lies there has no known format, or the rest of the URL is wrong.
    """
    return _openers().get(_name(asked))(asked)


def _name(asked: Asked) -> str:
    scheme, is_url, _ = asked.source.partition("://")
    if is_url:
        return "adbc" if scheme.startswith(ANY) else scheme
    return _FOLDER if asked.files else find_kind(asked.path, asked.what)


@cache
def _openers() -> Plugins[Opener]:
    # What is installed does not change while a process runs, and this is asked at every turn of the loop.
    return Plugins(GROUP, "table source")
