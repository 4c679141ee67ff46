"""Optional parts, found by entry points and loaded when first used; ours come through the same door as a stranger's."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from flyball.core.errors import PluginError, UnknownNameError

T = TypeVar("T")


class PluginMissingError(PluginError):
    """A part needs a package that is not installed."""

    code = "flyball/plugin-missing"

    def __init__(self, kind: str, name: str, missing: str, install: str) -> None:
        super().__init__(
            f"the {kind} {name!r} needs the package {missing!r}, which is not installed",
            hint=f"Install it with: pip install {install}",
        )


class PluginBrokenError(PluginError):
    """A part is installed but cannot be loaded."""

    code = "flyball/plugin-broken"

    def __init__(self, kind: str, name: str, value: str, reason: str) -> None:
        super().__init__(
            f"the {kind} {name!r} cannot be loaded from {value!r}: {reason}",
            hint="Update or remove the package that brings it; see what is installed with: pip list",
        )


class Plugins(Generic[T]):
    """The parts of one family: group → name → class. Nothing is imported before it is asked for.

    An entry point names in brackets the extra of Flyball that brings what it needs, such as
    ``flyball.runtimes.onnx:OnnxRuntime [onnx]``; the error for a missing package then says how to install it.

    Args:
        group: The group of entry points, such as ``flyball.runtimes``.
        kind: What one of them is called, such as ``runtime``.
        extra: Parts beside the installed ones, by name; for tests and for use inside a process.
    """

    def __init__(self, group: str, kind: str, *, extra: dict[str, T] | None = None) -> None:
        self._group = group
        self._kind = kind
        self._loaded: dict[str, T] = dict(extra or {})
        self._entries: dict[str, EntryPoint] | None = None

    def names(self) -> list[str]:
        """Return the names of all parts, sorted, whether or not they load."""
        return sorted({*self._found(), *self._loaded})

    def get(self, name: str) -> T:
        """Return a part, importing it on first use.

        Raises:
            UnknownNameError: No installed package brings a part of that name.
            PluginError: It cannot be loaded.
        """
        if name not in self._loaded:
            entry = self._found().get(name)
            if entry is None:
                raise UnknownNameError(self._kind, name, self.names())
            self._loaded[name] = self._load(entry)
        return self._loaded[name]

    def _found(self) -> dict[str, EntryPoint]:
        if self._entries is None:
            self._entries = {entry.name: entry for entry in entry_points(group=self._group)}
        return self._entries

    def _load(self, entry: EntryPoint) -> T:
        try:
            return cast(T, entry.load())
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing == entry.module.partition(".")[0]:
                raise PluginBrokenError(self._kind, entry.name, entry.value, str(error)) from error
            install = _install_line(entry.extras, missing)
            raise PluginMissingError(self._kind, entry.name, missing, install) from error
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise PluginBrokenError(self._kind, entry.name, entry.value, reason) from error


def _install_line(extras: Sequence[str], missing: str) -> str:
    return f"'flyball[{','.join(extras)}]'" if extras else missing
