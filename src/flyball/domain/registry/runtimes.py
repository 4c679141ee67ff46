"""How a model is kept in a package and how it computes: the port, and how the right runtime is found."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flyball.core.errors import BackendError, InvalidInputError, NotFoundError, PluginError
from flyball.core.plugins import Plugins
from flyball.domain.registry.signatures import Signature

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

GROUP = "flyball.runtimes"
PLAIN_PYTHON = "pyfunc"
ONNX = "onnx"


class Predictor(Protocol):
    """A loaded model, ready for requests. Safe to call from several threads."""

    def predict(self, frame: "pl.DataFrame") -> "Array":
        """Predict rows.

        Args:
            frame: At least the signature's features; other columns are ignored, the order does not matter.

        Returns:
            Float64: ``(n_rows,)`` with the positive class's probability (binary) or the value (regression), or
            ``(n_rows, n_classes)`` with probabilities (multiclass).

        Raises:
            SchemaMismatchError: A feature is missing or has another type.
        """
        ...


ArrayForm = Callable[["Array"], "Array"]
"""Predicts rows of float64, ``(n_rows, n_features)`` in the order of the features, NaN for null; see `Predictor`."""


def array_form(predictor: Predictor) -> "ArrayForm | None":
    """Return how a predictor takes its features as one array; None where it must be given a frame.

    A predictor that can do this has it as ``predict_array``: the same predictions without the cost of a frame. It
    raises as `Predictor.predict` does.
    """
    form: ArrayForm | None = getattr(predictor, "predict_array", None)
    return form


EachForm = Callable[["pl.DataFrame"], Iterator["Array"]]
"""Predicts rows one after the other: yields for each row, in order, what `Predictor.predict` gives for it alone."""


def each_form(predictor: Predictor) -> "EachForm | None":
    """Return how a predictor predicts rows one after the other; None where it predicts all at once.

    A predictor whose model yields has it as ``predict_each``. Closing the iterator ends the model's work.
    """
    form: EachForm | None = getattr(predictor, "predict_each", None)
    return form


class Runtime(Protocol):
    """One kind of model.

    One file per kind under ``flyball/runtimes/``; each must pass ``flyball.testing.runtimes.RUNTIME_CHECKS``. The name
    of its entry point is the top-level module of the classes it runs, such as ``xgboost``; a subclass of several is
    run by the most specific. The class is made without arguments.
    """

    def save(self, model: Any, folder: Path, signature: Signature, reference: "pl.DataFrame") -> None:
        """Write a fitted model as files of an empty folder, so that another process can load it.

        Args:
            model: As the training step returned it.
            folder: Exists and is empty.
            signature: What the model takes and gives.
            reference: Rows with the signature's features, to prove on them what the runtime wants to rely on.

        Raises:
            ModelNotSavedError: The model cannot be written.
        """
        ...

    def load(self, folder: Path) -> Any:
        """Return the model as its author knows it, to hand it to the project's own code."""
        ...

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """Return the model ready to answer requests, one row at a time or many."""
        ...


class Converter(Protocol):
    """Turns models of other libraries into ONNX; a runtime that can do it has this beside `Runtime`."""

    precisions: tuple[str, ...]
    """Number types to try, the best first, such as ``float64``."""

    def convert(
        self, model: Any, folder: Path, signature: Signature, reference: "pl.DataFrame", precision: str
    ) -> None:
        """Write the model as ONNX into a folder; raises anything when it cannot."""
        ...


class ModelNotSavedError(InvalidInputError):
    """A model cannot be written into a package."""

    code = "registry/model-not-saved"

    def __init__(
        self,
        kind: str,
        reason: str,
        *,
        hint: str = "A model must hold no open files, connections, locks or generators.",
    ) -> None:
        super().__init__(f"the model, a {kind}, cannot be kept in a package: {reason}", hint=hint)


class ModelNotLoadedError(BackendError):
    """A package's model cannot be loaded here, although its files are whole."""

    code = "registry/model-not-loaded"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} cannot be loaded: {reason}",
            hint="Install the versions that its environment.txt names.",
        )


class PredictionFailedError(InvalidInputError):
    """The model refuses its input, or gives something else than its signature says."""

    code = "registry/prediction-failed"

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"the model, a {kind}, cannot predict these rows: {reason}")


class NotAModelError(InvalidInputError):
    """What was given as a model cannot predict."""

    code = "registry/not-a-model"

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"a {kind} was given as a model, but it has no predict method",
            hint="Return the fitted model from the training step, and give that to fb.candidate.",
        )


class Runtimes:
    """Finds the runtime of a model.

    Args:
        plugins: The installed runtimes, through entry points, by default.
    """

    def __init__(self, plugins: Plugins[type[Runtime]] | None = None) -> None:
        self._plugins = plugins or Plugins(GROUP, "runtime")
        self._made: dict[str, Runtime] = {}

    def choose(self, model: object) -> str:
        """Return the name of the runtime for a model: the most specific of its class's ancestors decides.

        Nothing is imported for this. A model of no known library is run as plain Python.

        Raises:
            NotAModelError: It cannot predict.
        """
        names = self._plugins.names()
        for ancestor in type(model).__mro__:
            library = ancestor.__module__.partition(".")[0]
            if library in names:
                return library
        if not callable(getattr(model, "predict", None)) and not callable(model):
            raise NotAModelError(type(model).__name__)
        return PLAIN_PYTHON

    def get(self, name: str) -> Runtime:
        """Return a runtime by name.

        Raises:
            UnknownNameError: No installed package brings it.
            PluginError: It cannot be loaded, for instance since its library is not installed.
        """
        if name not in self._made:
            self._made[name] = self._plugins.get(name)()
        return self._made[name]

    def is_installed(self, name: str) -> bool:
        """Tell whether a runtime and its library can be used here."""
        try:
            self.get(name)
        except (NotFoundError, PluginError):
            return False
        return True
