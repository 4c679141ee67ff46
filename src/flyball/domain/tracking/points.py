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


HistoryRow = tuple[int, int, float, int, str | None, str | None, str | None, str]
"""A point of one metric as it is read: time (us), step, value, whether it is NaN, model id, dataset's name and digest,
source. A plain tuple, since a page has 25,000 of them."""
