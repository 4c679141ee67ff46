"""What the prediction log may not hold, as the project says."""

from collections.abc import Callable
from pathlib import Path

from flyball.domain.predictions.masking import Mask, Masking, open_key
from flyball.workspace.outline import Outline


class Masks:
    """The masks of a project's endpoints.

    A name that a table calls sensitive is so for every endpoint: requests carry its columns, and so may features.

    Args:
        home: Where the key is.
        outline: Gives what the project says of its endpoints.
    """

    def __init__(self, home: Path, outline: Callable[[], Outline]) -> None:
        self._home = home
        self._outline = outline
        self._masks: dict[str, Mask | None] = {}

    def of(self, endpoint: str) -> Mask | None:
        """Return an endpoint's mask; None where nothing of it is sensitive."""
        if endpoint not in self._masks:
            fields = self._fields(endpoint)
            self._masks[endpoint] = Mask(fields, open_key(self._home / "keys")) if fields else None
        return self._masks[endpoint]

    def names(self, endpoint: str) -> frozenset[str]:
        """Return an endpoint's sensitive fields."""
        return frozenset(self._fields(endpoint))

    def unlogged(self, model: str) -> frozenset[str]:
        """Return the fields that the log of no endpoint of a model holds as they are."""
        served = [name for name, endpoint in self._outline().endpoints.items() if endpoint.model == model]
        return frozenset(name for endpoint in served for name in self._fields(endpoint))

    def _fields(self, endpoint: str) -> dict[str, Masking]:
        outline = self._outline()
        declared = outline.endpoints.get(endpoint)
        return outline.sensitive | (declared.sensitive if declared is not None else {})
