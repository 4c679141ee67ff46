"""The project that a model comes from, as a package needs it."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from flyball.core.errors import UnknownNameError
from flyball.domain.data.rules import Rule
from flyball.domain.data.tables import Table


class ProjectSource(msgspec.Struct, frozen=True, kw_only=True):
    """The code that a package carries, so that a rollback restores feature definitions with the model.

    Attributes:
        root: The project's folder.
        files: The bytes of ``project.py`` and of every module of the folder that it imports, by relative path.
        module: The name under which the project file is loaded.
        tables: The tables that the project declares, by name; their expectations travel with the model.
        attributed: The models of which it is watched what each feature adds to their predictions.
    """

    root: Path
    files: Mapping[str, bytes]
    module: str = "project"
    tables: Mapping[str, Table] = {}
    attributed: frozenset[str] = frozenset()

    def expectations_of(self, table: str) -> tuple[Rule, ...]:
        """Return what a table must hold.

        Raises:
            UnknownNameError: The project declares no such table.
        """
        if table not in self.tables:
            raise UnknownNameError("table", table, self.tables)
        return tuple(self.tables[table].expectations)
