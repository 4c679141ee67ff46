"""Turns the definitions of a Feast repository into a project file, and says line by line what could not come along."""

import keyword
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from flyball.core.durations import format_duration
from flyball.core.errors import BackendError, ConflictError, NotFoundError
from flyball.core.files import write_bytes
from flyball.core.settings import PROJECT_FILE

_READER = Path(__file__).with_name("feast_reader.py")
_TIMEOUT_S = 300
_SIMPLE = re.compile(r"(Primitive)?\(?(String|Bool|U?Int(32|64)|Float(32|64)|UnixTimestamp|Date)\b")


class FeastUnreadableError(BackendError):
    """A Feast repository could not be read."""

    code = "workspace/feast-unreadable"

    def __init__(self, repository: Path, reason: str) -> None:
        super().__init__(
            f"the Feast repository {str(repository)!r} could not be read: {reason}",
            hint="Name an interpreter that has Feast and what the repository imports, with --python.",
        )


class _Source(msgspec.Struct, frozen=True):
    name: str
    kind: str
    path: str | None
    time: str | None
    known: str | None
    renamed: dict[str, str]
    is_delta: bool


class _View(msgspec.Struct, frozen=True):
    name: str
    kind: str
    entities: list[str]
    ttl_s: float | None
    features: dict[str, str]
    source: _Source | None
    push_source: str | None
    stream: str | None
    code: str | None
    aggregations: list[str]
    is_online: bool


class _Projection(msgspec.Struct, frozen=True):
    name: str
    alias: str | None
    features: list[str]


class _Service(msgspec.Struct, frozen=True):
    name: str
    views: list[_Projection]


class _OnDemand(msgspec.Struct, frozen=True):
    name: str
    code: str


class Repository(msgspec.Struct, frozen=True):
    """What a Feast repository declares; see ``feast_reader.py``."""

    project: str
    entities: dict[str, list[str]]
    views: list[_View]
    on_demand: list[_OnDemand]
    services: list[_Service]
    others: list[str]
    online_store: Any = None


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an import.

    Attributes:
        path: The project file.
        views: How many feature views it has.
        services: How many lists of features.
        notes: What means something else now, one line each.
        left_out: What could not come along and why, one line each.
    """

    path: str
    views: int
    services: int
    notes: list[str]
    left_out: list[str]


def read_repository(root: Path, python: str) -> Repository:
    """Describe a repository by running its Python with an interpreter that has Feast.

    Raises:
        NotFoundError: The folder is no Feast repository.
        FeastUnreadableError: The interpreter has no Feast, or the repository's code fails.
    """
    if not (root / "feature_store.yaml").is_file():
        raise NotFoundError(
            f"there is no feature_store.yaml in {str(root)!r}", hint="Name the folder that feast apply is called in."
        )
    try:
        done = subprocess.run(
            [python, str(_READER), str(root)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FeastUnreadableError(root, str(error)) from error
    if done.returncode:
        raise FeastUnreadableError(root, (done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Repository)


def import_repository(root: Path, target: Path, python: str) -> Carried:
    """Write a project file with the definitions of a Feast repository.

    Args:
        root: The repository.
        target: The folder of the new project.
        python: An interpreter that has Feast.

    Raises:
        ConflictError: The folder has a project file already.
        FlyballError: See `read_repository`.
    """
    path = target / PROJECT_FILE
    if path.exists():
        raise ConflictError(f"{str(path)!r} exists already", hint="Choose another folder with --project.")
    writer = _Writer(read_repository(root, python), root.resolve(), target.resolve())
    text = writer.write()
    write_bytes(path, text.encode())
    return Carried(
        path=str(path),
        views=len(writer.written),
        services=writer.services,
        notes=writer.notes,
        left_out=writer.left_out,
    )


class _Writer:
    """Writes one project file and collects what is to be told."""

    def __init__(self, repository: Repository, root: Path, target: Path) -> None:
        self._repository = repository
        self._root = root
        self._target = target
        self._names: set[str] = {"fb", "pl"}
        self._variables: dict[tuple[str, ...], str] = {}
        self._tables: dict[tuple[str, str, str], str] = {}
        self._head: list[str] = []
        self._body: list[str] = []
        self.written: dict[str, tuple[str, list[str]]] = {}
        self.services = 0
        self.notes: list[str] = []
        self.left_out: list[str] = []

    def write(self) -> str:
        """Return the file's text."""
        for view in self._repository.views:
            self._write_view(view)
        for computed in self._repository.on_demand:
            self._leave_code(
                f"on-demand feature view {computed.name}", computed.code, "write it as @fb.request_features"
            )
        for service in self._repository.services:
            self._write_service(service)
        self.left_out += [f"{other}: has no counterpart" for other in self._repository.others]
        self._tell_online_store()
        needs_polars = "import polars as pl\n\n" if self.written else ""
        about = f'"""Features of the Feast project {self._repository.project}."""'
        head = f"{about}\n\n{needs_polars}import flyball as fb\n\n"
        return head + "\n".join(self._head) + "\n" + "".join(self._body)

    def _write_view(self, view: _View) -> None:
        what = f"{view.kind} {view.name}"
        if view.code is not None:
            self._leave_code(what, view.code, "write its transformation as Polars expressions in @fb.features")
            return
        reason = _reason_against(view)
        if reason is not None:
            self.left_out.append(f"{what}: {reason}")
            return
        assert view.source is not None
        kept = [name for name, dtype in view.features.items() if _is_served(dtype)]
        self.left_out += [
            f"feature {view.name}:{name}: values of the type {dtype} are not served"
            for name, dtype in view.features.items()
            if name not in kept
        ]
        if not kept:
            self.left_out.append(f"{what}: none of its features can be served")
            return
        keys = [key for name in view.entities for key in self._repository.entities.get(name, [name])]
        table = self._table(view, view.source, keys)
        if not view.is_online:
            self.notes.append(f"{what}: was not online and now is")
        if view.stream not in (None, "PushSource"):
            self.notes.append(f"{what}: is read from its batch source; nothing reads its {view.stream}")
        variable = self._name(view.name)
        named = "" if variable == view.name else f", name={view.name!r}"
        ttl = f", ttl={format_duration(timedelta(seconds=view.ttl_s))!r}" if view.ttl_s else ""
        columns = ", ".join(repr(name) for name in [*keys, str(view.source.time), *kept])
        self._body.append(
            f"\n\n@fb.features({table}{ttl}{named})\ndef {variable}(rows: pl.LazyFrame) -> pl.LazyFrame:\n"
            f"    return rows.select({columns})\n"
        )
        self.written[view.name] = (variable, list(kept))

    def _table(self, view: _View, source: _Source, keys: Sequence[str]) -> str:
        """Return the variable of the table that a source and an entity make, declared on first use."""
        place = self._place(source)
        name = view.push_source or source.name or Path(place).stem
        known = (place, ",".join(keys), name)
        if known in self._tables:
            return self._tables[known]
        variable = self._name(name)
        arguments = [repr(place), f"entity={self._entity(view.entities, keys)}", f"time={source.time!r}"]
        if source.known:
            arguments.append(f"known={source.known!r}")
            self.notes.append(
                f"source {source.name}: a row counts from its {source.known!r} on; "
                "Feast took that column only to choose between rows of one time"
            )
        prepared = f".rename({source.renamed!r})" if source.renamed else ""
        # A snapshot takes no column of another type, whether or not a view uses it.
        dropped = sorted(
            feature
            for other in self._repository.views
            if other.source is not None and other.source.path == source.path
            for feature, dtype in other.features.items()
            if not _is_served(dtype)
        )
        if dropped:
            prepared += f".drop({', '.join(map(repr, dict.fromkeys(dropped)))}, strict=False)"
        if prepared:
            arguments.append(f"prepare=lambda rows: rows{prepared}")
        if variable != name:
            arguments.append(f"name={name!r}")
        self._head.append(f"{variable} = fb.Table({', '.join(arguments)})")
        self._tables[known] = variable
        return variable

    def _entity(self, names: Sequence[str], keys: Sequence[str]) -> str:
        known = tuple(keys)
        if known not in self._variables:
            self._variables[known] = self._name("_".join(names))
            self._head.append(f"{self._variables[known]} = fb.Entity({', '.join(map(repr, keys))})")
        return self._variables[known]

    def _place(self, source: _Source) -> str:
        path = str(source.path)
        if "://" in path:
            self.notes.append(f"source {source.name}: {path} must be readable where Flyball runs")
            return path
        full = (self._root / path).resolve()
        return str(full.relative_to(self._target)) if full.is_relative_to(self._target) else str(full)

    def _write_service(self, service: _Service) -> None:
        items: list[str] = []
        for projection in service.views:
            if projection.name not in self.written:
                self.left_out.append(f"feature service {service.name}: without {projection.name}, which is left out")
                continue
            if projection.alias and projection.alias != projection.name:
                self.notes.append(f"feature service {service.name}: {projection.name} keeps its own name here")
            variable, features = self.written[projection.name]
            if set(features) <= set(projection.features):
                items.append(variable)
            else:
                items += [repr(f"{projection.name}:{name}") for name in projection.features if name in features]
        if not items:
            return
        variable = self._name(service.name)
        if variable != service.name:
            self.notes.append(f"feature service {service.name}: clients must ask for it as {variable}")
        space = "" if self.services else "\n\n"
        self._body.append(f"{space}{variable} = [{', '.join(items)}]\n")
        self.services += 1

    def _leave_code(self, what: str, code: str, todo: str) -> None:
        self.left_out.append(f"{what}: {todo}")
        lines = "\n".join(f"# {line}".rstrip() for line in code.strip().splitlines())
        self._body.append(f"\n\n# Not carried over: {what}; {todo}.\n{lines}\n")

    def _tell_online_store(self) -> None:
        store = self._repository.online_store
        if isinstance(store, Mapping) and store.get("type") == "redis":
            address = str(store.get("connection_string", "localhost:6379")).partition(",")[0]
            self.notes.append(
                f"online store: to keep to that Redis, set in flyball.toml "
                f'online = "redis://{address}/0?prefix={self._repository.project}"; its rows are written anew'
            )

    def _name(self, wanted: str) -> str:
        """Return a variable that nothing else has."""
        name = re.sub(r"\W", "_", wanted)
        if not name or name[0].isdigit() or keyword.iskeyword(name):
            name = f"_{name}"
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def _is_served(dtype: str) -> bool:
    return _SIMPLE.match(dtype) is not None


def _reason_against(view: _View) -> str | None:
    """Return why a view cannot come along, or None."""
    source = view.source
    if view.aggregations:
        return "has aggregations; declare them with @fb.features over its source"
    if source is None:
        return "has no batch source, from which training would read"
    if source.kind != "FileSource" or not source.path:
        return f"reads a {source.kind}; declare a table over its address: fb.Table('postgresql://…')"
    if not source.time:
        return "its source has no timestamp_field; a table needs a time"
    if not view.entities:
        return "has no entity; features are looked up by one"
    return None
