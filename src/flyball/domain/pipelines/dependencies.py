"""What a call's result depends on, gathered from the graph, the code and the files."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from flyball.core.hashing import digest_value
from flyball.domain.data.code import CodeIdentity, identify_code
from flyball.domain.pipelines.fingerprints import FileDigests, find_path
from flyball.domain.pipelines.graph import Call, Node, iterate_nodes
from flyball.domain.pipelines.keys import KeyParts, as_json
from flyball.domain.pipelines.results import StoredValue
from flyball.domain.pipelines.steps import Step

ValuesOf = Callable[[Node], list[StoredValue]]


class KeyMaker:
    """Gathers the parts of the cache keys of one run.

    Args:
        root: The project's folder: code in it is followed, relative paths start there.
        files: Digests of files.

    Attributes:
        paths: Every path that a parameter or constant named, or might name once it exists.
    """

    def __init__(self, root: Path, files: FileDigests) -> None:
        self._root = root
        self._files = files
        self._codes: dict[int, CodeIdentity] = {}
        self.paths: dict[str, None] = {}

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
        gathering = _Gathering(self._root, self._files, values_of, self._identify)
        for name, value in call.inputs.items():
            gathering.add(name, value)
        self.paths |= gathering.paths
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

    def _code(self, call: Call) -> tuple[CodeIdentity | None, str]:
        if not isinstance(call.operation, Step):
            return None, ""
        function = call.operation.function
        found = self._codes.get(id(function))
        if found is None:
            found = self._codes[id(function)] = identify_code(function, self._root, digest=self._files.digest)
            self.paths |= {str(path): None for path in found.files if path.suffix != ".py"}
        own = next((name for name in found.parts if name.endswith(f"::{function.__qualname__}")), "")
        return found, own

    def _identify(self, value: Any) -> str:
        # A partial is taken apart by its arguments: classes, functions and objects count with their code and state.
        return identify_code(partial(_hold, value), self._root, digest=self._files.digest).digest


def _hold(value: Any) -> Any:
    return value


class _Gathering:
    """What the inputs of one call contribute."""

    def __init__(self, root: Path, files: FileDigests, values_of: ValuesOf, identify: Callable[[Any], str]) -> None:
        self.parameters: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.paths: dict[str, None] = {}
        self._root = root
        self._digests = files
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
        if path is None:
            if isinstance(value, Path) or "/" in value or "." in value:
                self.paths[str(self._root / value)] = None
            return value if isinstance(value, str) else {"path": str(value)}
        self.paths[str(path)] = None
        self.files[f"{name}={value}"] = self._digests.digest(path)
        return _IS_FILE


_IS_FILE = {"file": True}
