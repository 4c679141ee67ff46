"""One prediction as it is logged, and many of them as a frame."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from flyball.core.durations import from_us

NO_FIELDS = msgspec.Raw(b"{}")
LIVE_FOR_CANARY = "live-for-canary"
"""The node of an answer that the live version gave because the candidate, whose turn it was, had failed."""


class PredictionStatus(StrEnum):
    """What became of a request's row."""

    OK = "ok"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    ERROR = "error"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a row was refused, quarantined or could not be predicted, or what was warned of.

    Attributes:
        column: The field it is about; empty when it is about the whole row.
        rule: What kind of demand was not met, such as ``between`` or ``missing``.
        message: The finding in words.
    """

    column: str
    rule: str
    message: str


class ViewUse(msgspec.Struct, frozen=True, kw_only=True):
    """Which stored features a prediction used.

    Attributes:
        version: The feature view's version.
        event_time_us: When the features held, in microseconds; None when nothing was stored for the entity.
    """

    version: str
    event_time_us: int | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"of_class": "class"}):
    """What each feature added to a prediction.

    Attributes:
        base: What the model would answer without knowing the row.
        attributions: What each of the model's inputs added; with ``base`` they sum to the prediction on ``scale``.
        scale: ``value``, ``probability``, or ``log-odds`` (of a model of two classes, the sum is the logarithm of
            p / (1 - p); of more classes, the softmax of all sums gives the probabilities).
        method: ``exact trees``, ``exact linear`` or ``sampled``.
        of_class: The class that is explained, the likeliest one, of more than two.
    """

    base: float
    attributions: dict[str, float]
    scale: str
    method: str
    of_class: bool | int | float | str | None = None

    @property
    def total(self) -> float:
        """The prediction on the explanation's scale."""
        return self.base + sum(self.attributions.values())


class PredictionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of the prediction log, in the form of its file.

    Attributes:
        id: Identifies the prediction; sorts by time.
        endpoint: Who answered.
        at_us: When, in microseconds since 1970 UTC.
        variant: ``live``, ``canary``, ``shadow``, or ``pinned`` where the caller named a version that is not live.
        version: The model version, such as ``credit-risk/3``; empty when none was asked.
        status: What became of the row.
        entity: The entity's key columns.
        key: The row's own key columns, where its table declares some.
        time_us: The row's own time (its table's time column), in microseconds.
        request: The fields as they came, as a JSON object.
        features: The model's inputs as they were served, as a JSON object.
        views: For each feature view, its version and the time of the features used.
        prediction: The predicted value, probability of the positive class, or number of the likeliest class.
        scores: The probability of each class, for models with more than two.
        reasons: Why it is not ok, or what was warned of.
        latency_us: Time spent on it until it was logged; rows of one request share theirs evenly.
        stage: The rollout's stage at that moment, such as ``canary 5%``.
        rollout: The rollout's id.
        shadow_of: The id of the prediction that was answered, when this one only ran beside it.
        propensity: How likely routing was to pick this variant; None where only one could answer.
        node: What answered where the endpoint is a graph, such as ``fallback``; None for the model itself.
        explanation: What each feature added, where that was asked for.
    """

    id: str
    endpoint: str
    at_us: int
    variant: str
    version: str
    status: PredictionStatus = PredictionStatus.OK
    entity: dict[str, Any] = {}
    key: dict[str, Any] = {}
    time_us: int | None = None
    request: msgspec.Raw = NO_FIELDS
    features: msgspec.Raw = NO_FIELDS
    views: dict[str, ViewUse] = {}
    prediction: float | None = None
    scores: list[float] | None = None
    reasons: list[Reason] = []
    latency_us: int = 0
    stage: str | None = None
    rollout: str | None = None
    shadow_of: str | None = None
    propensity: float | None = None
    node: str | None = None
    explanation: Explanation | None = None

    @property
    def at(self) -> datetime:
        """When it was answered."""
        return from_us(self.at_us)

    @property
    def request_fields(self) -> dict[str, Any]:
        """The fields as they came."""
        fields: dict[str, Any] = msgspec.json.decode(self.request)
        return fields

    @property
    def feature_values(self) -> dict[str, Any]:
        """The model's inputs as they were served."""
        values: dict[str, Any] = msgspec.json.decode(self.features)
        return values
