"""The metrics that judge predictions once labels are known: names and directions, nothing to compute."""

from typing import Literal

import msgspec

from flyball.core.errors import UnknownNameError

Better = Literal["higher", "lower", "near-zero"]
Task = Literal["binary", "classes", "regression"]


class Metric(msgspec.Struct, frozen=True):
    """What a metric is called, which values of it are good, and what it judges.

    Attributes:
        name: As users write it.
        better: Which way is good; ``near-zero`` metrics are compared by their size, whatever the sign.
        task: ``binary`` compares labels of 0 and 1 with probabilities, ``classes`` compares classes,
            ``regression`` compares values.
    """

    name: str
    better: Better
    task: Task


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auc", "higher", "binary"),
        Metric("average_precision", "higher", "binary"),
        Metric("accuracy", "higher", "classes"),
        Metric("precision", "higher", "binary"),
        Metric("recall", "higher", "binary"),
        Metric("f1", "higher", "binary"),
        Metric("logloss", "lower", "binary"),
        Metric("brier", "lower", "binary"),
        Metric("rmse", "lower", "regression"),
        Metric("mse", "lower", "regression"),
        Metric("rmsle", "lower", "regression"),
        Metric("mae", "lower", "regression"),
        Metric("mape", "lower", "regression"),
        Metric("r2", "higher", "regression"),
        Metric("bias", "near-zero", "regression"),
    )
}


def find_metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        UnknownNameError: No metric has that name; close ones are suggested.
    """
    metric = METRICS.get(name)
    if metric is None:
        raise UnknownNameError("metric", name, METRICS, hint=f"The metrics are: {', '.join(METRICS)}.")
    return metric
