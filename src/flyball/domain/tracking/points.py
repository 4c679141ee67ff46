"""One measured value, as it is kept."""

from typing import NamedTuple


class Point(NamedTuple):
    """A metric's value at a step and a time; a tuple, since thousands of them come in one request.

    Attributes:
        value: May be NaN or infinite.
        source: The pipeline step that measured it; empty for clients.
        model_id: The logged model that it judges.
        dataset_name: The dataset that it was measured on.
        dataset_digest: The dataset's digest.
    """

    name: str
    value: float
    logged_at_us: int
    step: int = 0
    source: str = ""
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
