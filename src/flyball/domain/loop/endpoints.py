"""An endpoint as a project declares it: the model it serves and everything that keeps it right."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from flyball.core.durations import parse_duration
from flyball.core.errors import InvalidInputError
from flyball.domain.loop.triggers import Trigger
from flyball.domain.monitoring.metrics import find_metric
from flyball.domain.monitoring.monitors import AttributionDrift, Monitor, check_names
from flyball.domain.pipelines.steps import Pipeline
from flyball.domain.predictions.masking import read_maskings
from flyball.domain.registry.gates import Gate
from flyball.domain.serving.graphs import Node, check_graph
from flyball.domain.serving.rollouts import Stage, check_stages

if TYPE_CHECKING:
    from flyball.domain.data.tables import ColumnRef

AUTO = "auto"


class Endpoint:
    """Where a model goes live, under which conditions, what is watched there and what happens then.

    Args:
        model: The model's name in the registry, as `candidate` gives it.
        gates: Conditions that a version must meet before it may go live.
        approval: ``"auto"``, or the role that must say yes to each version.
        rollout: Stages on the way to live, in order; live follows the last.
        monitors: What is watched while it is live.
        retrain: The pipeline that makes a new version.
        retrain_on: What starts it, besides a person.
        graph: What answers, where it is more than the model alone: made by `model`, `ensemble`, `route` and `fallback`.
        prepare: A function from a request's fields, a dict, to the fields that the model asks for, a dict; called
            before anything is checked. The project's present one is used, whatever version answers.
        on_violation: What happens to a live request that breaks an expectation whose severity is ``fail``:
            ``"refuse"`` answers 422, ``"quarantine"`` records it without a prediction.
        sensitive: Fields of which the prediction log may hold only a keyed digest (``["email"]``), or nothing at all
            (``{"email": "leave out"}``), besides what its tables call sensitive.
        keep: How long predictions and their labels are kept, such as ``"400d"``; for ever without it.
        name: The name in addresses; the variable's name by default.

    Raises:
        InvalidInputError: A part is not what its place asks for; it is named.
    """

    def __init__(
        self,
        *,
        model: str,
        gates: Sequence[Gate] = (),
        approval: str = AUTO,
        rollout: Sequence[Stage] = (),
        monitors: Sequence[Monitor] = (),
        retrain: Pipeline[..., Any] | None = None,
        retrain_on: Sequence[Trigger] = (),
        graph: Node | None = None,
        prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        on_violation: Literal["refuse", "quarantine"] = "refuse",
        sensitive: Sequence[str] | Mapping[str, str] = (),
        keep: str | timedelta | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.gates = tuple(gates)
        self.approval = approval
        self.rollout = tuple(rollout)
        self.monitors = tuple(monitors)
        self.retrain = retrain
        self.retrain_on = tuple(retrain_on)
        self.graph = graph
        self.prepare = prepare
        self.on_violation = on_violation
        self.sensitive = read_maskings(sensitive, f"the endpoint for {model!r}")
        self.keep = None if keep is None else parse_duration(keep, what=f"keep of the endpoint for {model!r}")
        self._check()

    @property
    def label(self) -> "ColumnRef | None":
        """The label that the endpoint's first performance monitor compares with, if there is one."""
        return next((found for monitor in self.monitors if (found := getattr(monitor, "labels", None))), None)

    @property
    def watches_attributions(self) -> bool:
        """Whether a monitor watches what each feature adds to predictions."""
        return any(isinstance(monitor, AttributionDrift) for monitor in self.monitors)

    def __repr__(self) -> str:
        return f"Endpoint({self.name or self.model!r})"

    def _check(self) -> None:
        if not self.model or not isinstance(self.model, str):
            raise InvalidInputError(f"an endpoint's model must be a name, but {self.model!r} was given")
        if not self.approval:
            raise InvalidInputError(f"the approval of the endpoint for {self.model!r} must be 'auto' or a role")
        if self.on_violation not in ("refuse", "quarantine"):
            raise InvalidInputError(
                f"on_violation of the endpoint for {self.model!r} must be 'refuse' or 'quarantine', "
                f"but {self.on_violation!r} was given"
            )
        for what, values, kinds in (
            ("gates", self.gates, Gate),
            ("rollout", self.rollout, Stage),
            ("monitors", self.monitors, Monitor),
            ("retrain_on", self.retrain_on, Trigger),
        ):
            for value in values:
                if not isinstance(value, kinds):
                    raise InvalidInputError(
                        f"{what} of the endpoint for {self.model!r} holds {value!r}, which does not belong there"
                    )
        self._check_serving()
        check_names(self.monitors)
        check_stages(self.rollout)
        if self.retrain is not None and not isinstance(self.retrain, Pipeline):
            raise InvalidInputError(
                f"retrain of the endpoint for {self.model!r} must be a pipeline, but {self.retrain!r} was given",
                hint="Give the function itself, marked with @fb.pipeline and not called.",
            )
        if self.retrain_on and self.retrain is None:
            raise InvalidInputError(
                f"the endpoint for {self.model!r} says when to retrain (retrain_on) but not what (retrain)"
            )

    def _check_serving(self) -> None:
        if self.graph is not None:
            check_graph(self.graph, self.model)
        if self.prepare is not None and not callable(self.prepare):
            raise InvalidInputError(
                f"prepare of the endpoint for {self.model!r} must be a function of one request, "
                f"but {self.prepare!r} was given"
            )
        for stage in self.rollout:
            if stage.metric is not None:
                find_metric(stage.metric)


def check_graphs(endpoints: Iterable[Endpoint]) -> None:
    """Refuse graphs that ask a model which no endpoint of the project serves.

    Raises:
        InvalidInputError: There is one; it is named.
    """
    known = list(endpoints)
    models = [endpoint.model for endpoint in known]
    for endpoint in known:
        if endpoint.graph is not None:
            check_graph(endpoint.graph, endpoint.model, models)
