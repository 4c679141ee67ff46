"""What a call's result depends on, gathered from the graph, the code and the files."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flyball.core.hashing import digest_value
from flyball.domain.data.code import CodeIdentity, identify_code
from flyball.domain.pipelines.fingerprints import FileDigests, find_path, list_files
from flyball.domain.pipelines.graph import Call, Graph, Node, iterate_nodes
from flyball.domain.pipelines.keys import KeyParts, as_json
from flyball.domain.pipelines.results import StoredValue
from flyball.domain.pipelines.steps import Step

ValuesOf = Callable[[Node], list[StoredValue]]


class KeyMaker:
    """Gathers the parts of the cache keys of one run.

    A file that a step names counts by its content, unless the step wrote it itself: such a file changed while the
    step last ran, and is named besides only by steps that come after it.

    Args:
        root: The project's folder: code in it is followed, relative paths start there.
        files: Digests of files.
        graph: The run's graph.
        windows: When each step last really ran, in nanoseconds, by its name.

    Attributes:
        paths: Every file or folder that a parameter or constant named, and that counts.
        absent: Every path that one might name, where there was nothing yet, and the call that might.
    """

    def __init__(self, root: Path, files: FileDigests, graph: Graph, windows: Mapping[str, tuple[int, int]]) -> None:
        self._root = root
        self._files = files
        self._graph = graph
        self._windows = windows
        self._codes: dict[int, CodeIdentity] = {}
        self._named: dict[str, set[str]] | None = None
        self.paths: set[str] = set()
        self.absent: dict[str, Call] = {}

    def gather(self, call: Call, identity: str, values_of: ValuesOf) -> KeyParts:
        """Return what a call's result depends on.

        Args:
            call: All calls that it needs are done.
            identity: What its operation says that it depends on besides.
            values_of: Returns the values that a node stands for.

        Raises:
            OSError: A file that a parameter names cannot be read.
        """
        code, own = self._code(call)

        def digest(path: Path) -> str:
            return self._files.digest(path, skip=lambda file: self._is_own_work(call, file))

        gathering = _Gathering(self._root, digest, values_of, self._identify)
        for name, value in call.inputs.items():
            gathering.add(name, value)
        self.paths |= gathering.paths
        self.absent |= dict.fromkeys(gathering.absent, call)
        return KeyParts(
            code_digest=code.digest if code else f"operation {call.base_name}",
            code=code.parts if code else {},
            own_code=own,
            parameters=gathering.parameters,
            files=gathering.files,
            inputs=gathering.inputs,
            sources=gathering.sources,
            identity=identity,
        )

    def gather_after(self, call: Call, before: KeyParts, values_of: ValuesOf) -> KeyParts:
        """Return what a call's result depends on after it ran: what it turned out to write itself counts no more."""
        own = [entry.partition("=")[2] for entry in before.files]
        if isinstance(call.operation, Step):
            code = self._codes.get(id(call.operation.function))
            own += [str(path) for path in code.files if path.suffix != ".py"] if code else []
        if not any(self._is_own_work(call, file) for name in own for file in list_files(str(self._root / name))):
            return before
        if isinstance(call.operation, Step):
            self._codes.pop(id(call.operation.function), None)
        self.paths -= {str(self._root / name) for name in own}
        return self.gather(call, before.identity, values_of)

    def still_absent(self) -> list[str] | None:
        """Return the paths where there is still nothing, without those that a step has made its own result by now.

        Returns:
            None if something came that nobody in the run made for itself: then it is not known who saw it.
        """
        came = {path: call for path, call in self.absent.items() if Path(path).exists()}
        if all(self._is_own_work(call, path) for path, call in came.items()):
            return sorted(self.absent.keys() - came.keys())
        return None

    def _code(self, call: Call) -> tuple[CodeIdentity | None, str]:
        if not isinstance(call.operation, Step):
            return None, ""
        function = call.operation.function
        found = self._codes.get(id(function))
        if found is None:
            found = identify_code(function, self._root, digest=self._files.digest)
            data = [path for path in found.files if path.suffix != ".py"]
            written = {path for path in data if self._is_own_work(call, str(path))}
            if written:
                found = identify_code(
                    function,
                    self._root,
                    digest=lambda path: "" if path.resolve() in written else self._files.digest(path),
                )
            self.paths |= {str(path) for path in data if path not in written}
            self.absent |= {str(path): call for path in found.absent}
            self._codes[id(function)] = found
        own = next((name for name in found.parts if name.endswith(f"::{function.__qualname__}")), "")
        return found, own

    def _identify(self, value: Any) -> str:
        # A partial is taken apart by its arguments: classes, functions and objects count with their code and state.
        return identify_code(partial(_hold, value), self._root, digest=self._files.digest).digest

    def _is_own_work(self, call: Call, file: str) -> bool:
        """Tell whether a step wrote a file itself: it changed while the step last ran, and nobody before names it."""
        window = self._windows.get(call.name)
        if window is None:
            return False
        try:
            changed_ns = Path(file).stat().st_ctime_ns
        except OSError:
            return False
        if not window[0] - _TICK_NS <= changed_ns <= window[1]:
            return False
        if self._named is None:
            self._named = self._gather_names()
        places = (Path(file), *Path(file).parents)
        users = set().union(*(self._named.get(str(place), set()) for place in places))
        return users <= {call.name, *self._graph.names_after(call)}

    def _gather_names(self) -> dict[str, set[str]]:
        """Return which steps name each path, in their code or their parameters."""
        named: dict[str, set[str]] = {}
        for call in self._graph.calls:
            texts = list(_texts_in(list(call.inputs.values())))
            if isinstance(call.operation, Step):
                texts += map(str, identify_code(call.operation.function, self._root, digest=_no_digest).files)
            for text in texts:
                named.setdefault(str(self._root / text), set()).add(call.name)
        return named


_TICK_NS = 12_000_000
"""File systems stamp changes with a clock that lags by up to one kernel tick, 10 ms at the slowest."""


def _no_digest(path: Path) -> str:
    return ""


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str | Path) and "\0" not in str(value):
        yield str(value)
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)


def _hold(value: Any) -> Any:
    return value


class _Gathering:
    """What the inputs of one call contribute."""

    def __init__(
        self, root: Path, digest: Callable[[Path], str], values_of: ValuesOf, identify: Callable[[Any], str]
    ) -> None:
        self.parameters: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.paths: set[str] = set()
        self.absent: set[str] = set()
        self._root = root
        self._digest = digest
        self._values_of = values_of
        self._identify = identify

    def add(self, name: str, value: Any) -> None:
        """Add one parameter."""
        nodes = list(iterate_nodes(value))
        described = self._describe(name, value)
        if nodes:
            self.inputs[name] = digest_value(described)
            labels = list(dict.fromkeys(node.call.name for node in nodes))
            self.sources[name] = ", ".join(labels[:2]) + (" …" if len(labels) > 2 else "")
        elif described is not _IS_FILE:
            self.parameters[name] = as_json(described)

    def _describe(self, name: str, value: Any) -> Any:
        """Return JSON that is equal for equal values; files are noted apart."""
        if isinstance(value, Node):
            return [stored.content for stored in self._values_of(value)]
        if isinstance(value, str | Path):
            return self._describe_text(name, value)
        if value is None or isinstance(value, bool) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if type(value) in (list, tuple):
            items = [self._describe(f"{name}[{index}]", item) for index, item in enumerate(value)]
            return items if type(value) is list else {"tuple": items}
        if type(value) is dict:
            return {"dict": list(self._describe_items(name, value))}
        return {"object": self._identify(value)}

    def _describe_items(self, name: str, value: dict[Any, Any]) -> Iterator[Any]:
        for key, item in value.items():
            yield [self._describe(name, key), self._describe(f"{name}[{key!r}]", item)]

    def _describe_text(self, name: str, value: str | Path) -> Any:
        path = find_path(value, self._root)
        digest = self._digest(path) if path is not None else ""
        if path is not None and digest:
            self.paths.add(str(path))
            self.files[f"{name}={value}"] = digest
            return _IS_FILE
        if path is None and (isinstance(value, Path) or "/" in value or "." in value):
            self.absent.add(str(self._root / value))
        return value if isinstance(value, str) else {"path": str(value)}


_IS_FILE = {"file": True}
