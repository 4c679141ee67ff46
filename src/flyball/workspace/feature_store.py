"""A project's online features for any program: look up, push, materialise."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyball.workspace.columns import read_columns

if TYPE_CHECKING:
    import polars as pl

    from flyball.domain.features.materialising import Materialisation
    from flyball.domain.features.vectors import Vectors
    from flyball.domain.features.views import FeatureView
    from flyball.workspace.workspace import Workspace


class FeatureStore:
    """The online features of a project, in this process and with nothing to start.

    Args:
        project: The folder with ``project.py``.
        home: Where everything is kept; by default ``.flyball`` in the project.
    """

    def __init__(self, project: str | Path = ".", *, home: str | Path | None = None) -> None:
        self._project = Path(project)
        self._home = self._project / ".flyball" if home is None else Path(home)

    @cached_property
    def _workspace(self) -> "Workspace":
        from flyball.workspace.workspace import Workspace

        return Workspace(self._project, self._home)

    def get_online_features(
        self,
        features: "Sequence[str | FeatureView]",
        entities: "Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | pl.DataFrame",
        *,
        full_feature_names: bool = False,
    ) -> "Vectors":
        """Return features of entities as they are now.

        Args:
            features: Views, or references ``view``, ``view:feature`` or ``view@version:feature``.
            entities: The values of each key, one an entity: in columns, a frame of Polars or pandas, or a mapping for
                each entity; a number may be given as text.
            full_feature_names: Whether to call features ``view__feature`` in the answer.

        Returns:
            The values in columns, each with its status and time; ``to_dict()`` and ``to_frame()`` give the values.

        Raises:
            InvalidInputError: What is asked is none, or keys are missing.
            UnknownNameError: There is no such view or feature.
            NotMaterialisedError: A view was never written to the online store.
            BackendUnavailableError: The store did not answer, and ``online_fallback`` does not say to go on without it.
        """
        return self._workspace.get_online_features(features, entities, has_full_names=full_feature_names)

    def push(
        self,
        view: "str | FeatureView",
        rows: "Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | pl.DataFrame",
    ) -> int:
        """Write rows with a view's values as they arrive; the newest row of an entity counts.

        Args:
            view: The view or its name.
            rows: Keys, time and every feature, in columns of one length; or a frame of Polars or pandas, or a mapping
                for each row.

        Returns:
            How many entities now have another row.

        Raises:
            UnknownNameError: There is no such view.
            InvalidInputError: A column is missing, unknown, or of another type; nothing is written.
            NotMaterialisedError: The view was never written to the online store.
        """
        declared = self._workspace.project.view(view) if isinstance(view, str) else view
        return self._workspace.features.push(declared, read_columns(rows, what="rows"))

    def materialise(self, views: Sequence[str] = (), *, until: datetime | None = None) -> "list[Materialisation]":
        """Bring the online rows of views up to an instant, but not beyond now; of all views by default.

        Raises:
            UnknownNameError: There is no such view.
            FlyballError: A view's function fails, or the store does not answer.
        """
        return self._workspace.materialise(views, until=until)
