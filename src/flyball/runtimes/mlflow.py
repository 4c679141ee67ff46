"""What MLflow calls to load a package that is not scikit-learn's: it then answers as an endpoint does.

Named in a package's ``MLmodel`` file as ``loader_module``; MLflow itself is not imported here.
"""

from pathlib import Path
from typing import Any

import polars as pl

from flyball.core.encoding import from_json
from flyball.domain.registry.packages import MANIFEST, Manifest, Package
from flyball.domain.registry.runtimes import Predictor, Runtimes


class MlflowModel:
    """What MLflow expects of a ``python_function``: ``predict`` on a pandas frame."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Return probabilities or values for rows given as a pandas or Polars frame or a dict of columns."""
        columns = data.to_dict(orient="list") if hasattr(data, "iloc") else data
        return self._predictor.predict(columns if isinstance(columns, pl.DataFrame) else pl.DataFrame(columns))


def _load_pyfunc(path: str) -> MlflowModel:
    folder = Path(path)
    manifest = from_json((folder / MANIFEST).read_bytes(), Manifest, what=MANIFEST)
    return MlflowModel(Package(folder, folder.name, manifest).load_predictor(Runtimes()))
