"""What a project declares, gathered from its file."""

from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from flyball.core.errors import ConflictError, InvalidInputError, UnknownNameError
from flyball.core.settings import PROJECT_FILE
from flyball.domain.data.tables import Entity, Table
from flyball.domain.features.views import FeatureView, RequestFeatures
from flyball.domain.loop.endpoints import Endpoint, check_graphs
from flyball.domain.pipelines.steps import Pipeline, Step
from flyball.workspace.loading import import_project

T = TypeVar("T")


class Project:
    """The declarations of one project file, by name.

    Attributes:
        root: The project's folder.
        files: The bytes of ``project.py`` and of every module of the folder that it imports, by relative path.
    """

    def __init__(self, root: Path, module: ModuleType, files: dict[str, bytes]) -> None:
        self.root = root
        self.module = module
        self.files = files
        self.entities = gather(module, Entity)
        self.tables = gather(module, Table)
        self.views = gather(module, FeatureView)
        self.request_features = gather(module, RequestFeatures)
        self.steps = gather(module, Step)
        self.pipelines = gather(module, Pipeline)
        self.endpoints = gather(module, Endpoint)
        check_graphs(self.endpoints.values())
        self.feature_lists = _gather_feature_lists(module, self.views)

    @classmethod
    def load(cls, root: Path) -> "Project":
        """Run the project file of a folder and gather what it declares.

        Raises:
            NotFoundError: The folder has no project file.
            ProjectFileError: The file raises while it is loaded.
            ConflictError: Two declarations of one kind have the same name.
        """
        root = root.resolve()
        module, modules = import_project(root)
        return cls(root, module, {path: (root / path).read_bytes() for path in modules})

    def table(self, name: str) -> Table:
        """Return a table.

        Raises:
            UnknownNameError: The project declares no such table.
        """
        return _pick("table", name, self.tables)

    def pipeline(self, name: str) -> Pipeline[..., Any]:
        """Return a pipeline.

        Raises:
            UnknownNameError: The project declares no such pipeline.
        """
        return _pick("pipeline", name, self.pipelines)

    def endpoint(self, name: str) -> Endpoint:
        """Return an endpoint.

        Raises:
            UnknownNameError: The project declares no such endpoint.
        """
        return _pick("endpoint", name, self.endpoints)

    def view(self, name: str) -> FeatureView:
        """Return a feature view.

        Raises:
            UnknownNameError: The project declares no such view.
        """
        return _pick("feature view", name, self.views)

    def feature_list(self, name: str) -> list[str]:
        """Return the features of a list that the project file has under a name, as references.

        Raises:
            UnknownNameError: It has no such list.
        """
        return _pick("list of features", name, self.feature_lists)

    def endpoint_or_only(self, name: str | None) -> Endpoint:
        """Return the named endpoint, or the only one when no name is given.

        Raises:
            InvalidInputError: No name is given and there is not exactly one.
        """
        if name is not None:
            return self.endpoint(name)
        if len(self.endpoints) != 1:
            known = ", ".join(self.endpoints) or "none"
            raise InvalidInputError(
                f"{PROJECT_FILE} declares not one endpoint but: {known}", hint="Name the one you mean."
            )
        return next(iter(self.endpoints.values()))


def _pick(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise UnknownNameError(kind, name, known, hint=f"Names are the variables' and functions' in {PROJECT_FILE}.")
    return known[name]


def _gather_feature_lists(module: ModuleType, views: dict[str, FeatureView]) -> dict[str, list[str]]:
    """Return the lists of views and of references such as ``"view:feature"`` that a module's variables hold."""
    found = {}
    for variable, value in vars(module).items():
        if not isinstance(value, list | tuple) or variable.startswith("__"):
            continue
        stored = [item for item in value if not isinstance(item, RequestFeatures)]
        if stored and all(
            isinstance(item, FeatureView) or (isinstance(item, str) and ":" in item and item.partition(":")[0] in views)
            for item in stored
        ):
            found[variable] = [item.name if isinstance(item, FeatureView) else item for item in stored]
    return found


def gather(module: ModuleType, kind: type[T]) -> dict[str, T]:
    """Return what a module declares of one kind, by name; what has no name takes its variable's.

    Raises:
        ConflictError: Two different ones have the same name.
    """
    found: dict[str, T] = {}
    for variable, value in vars(module).items():
        if not isinstance(value, kind) or any(value is other for other in found.values()):
            continue
        thing: Any = value
        if thing.name is None:
            thing.name = variable
        if thing.name in found:
            raise ConflictError(
                f"{PROJECT_FILE} declares two {kind.__name__} of the name {thing.name!r}",
                hint="Give one of them another name.",
            )
        found[thing.name] = value
    return found
