"""What the data plane answers."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.predictions.records import Explanation, PredictionStatus


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with a field.

    Attributes:
        field: Its name; empty when it is about the whole row.
        rule: What kind of demand was not met, such as ``between`` or ``missing``.
        message: The finding in words.
    """

    field: str
    rule: str
    message: str


class FeatureUse(msgspec.Struct, frozen=True, kw_only=True):
    """Which stored features an answer rests on.

    Attributes:
        version: The feature view's version.
        event_time: When they held; None when nothing was stored for the entity, or it was too old.
    """

    version: str
    event_time: datetime | None


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one row of a request got.

    Attributes:
        prediction: The value of a regression, the probability of the positive class of two, or the likeliest class
            of more; None unless ``status`` is ok.
        prediction_id: Names it for labels and traces.
        model_version: Who answered, such as ``credit-risk/3``.
        variant: ``live`` or ``canary``.
        endpoint: The endpoint's name.
        features: For each feature view, what was used of it.
        status: ``ok``, ``quarantined``, ``refused`` or ``error``.
        scores: The probability of each class, for more than two.
        errors: What is wrong with the row.
        warnings: What was noticed, though the row was answered.
        explanation: What each feature added, where that was asked for.
        node: Which node of the endpoint's graph answered, where it is one.
    """

    prediction: float | int | bool | str | None
    prediction_id: str
    model_version: str
    variant: str
    endpoint: str
    features: dict[str, FeatureUse]
    status: str
    scores: dict[str, float] | None = None
    errors: list[Problem] = []
    warnings: list[Problem] = []
    explanation: Explanation | None = None
    node: str | None = None

    @property
    def is_ok(self) -> bool:
        """Whether there is a prediction."""
        return self.status == PredictionStatus.OK.value


class RequestRefusedError(InvalidInputError):
    """A request does not have the fields that the model asks for, or breaks what must hold of them."""

    code = "serving/request-refused"

    def __init__(self, endpoint: str, problems: Sequence[Problem]) -> None:
        told = "; ".join(problem.message for problem in problems[:5])
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        super().__init__(f"{endpoint!r} refused the request: {told}{more}")
        self.problems = list(problems)


def require_answered(answer: Answer, failure: FlyballError | None = None) -> Answer:
    """Return an answer that has a prediction or is quarantined.

    Raises:
        RequestRefusedError: It was refused.
        FlyballError: The model failed.
    """
    if answer.status == PredictionStatus.REFUSED.value:
        raise RequestRefusedError(answer.endpoint, answer.errors)
    if failure is not None and answer.status == PredictionStatus.ERROR.value:
        raise failure
    return answer
