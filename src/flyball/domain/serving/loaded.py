"""A model version in memory, ready to answer, and who brings it there."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import polars as pl

from flyball.core.errors import NotFoundError
from flyball.domain.data.requests import RequestSchema
from flyball.domain.data.row_checks import RowCheck, compile_row
from flyball.domain.data.rules import Rule
from flyball.domain.data.schemas import Field
from flyball.domain.data.tables import Table
from flyball.domain.features.labels import LabelRule
from flyball.domain.features.online import Completed, OnlineFeatures
from flyball.domain.features.training_sets import ViewRef
from flyball.domain.features.views import RequestFeatures
from flyball.domain.registry.explaining import Explainer
from flyball.domain.registry.packages import FeaturePlan, Package
from flyball.domain.registry.runtimes import Predictor, Runtimes
from flyball.domain.registry.signatures import Signature

if TYPE_CHECKING:
    from flyball.domain.serving.shelf import Shelf


class LoadedVersion(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Everything of a model version that answering needs.

    Attributes:
        ref: The version, such as ``credit-risk/3``.
        predictor: The model.
        signature: What it takes and gives.
        request: Tells what is wrong with a request's fields.
        check_row: Tells which expectations a row breaks.
        entity: Key columns of whom a row is about; who shares them gets the same variant.
        key: Key columns of the row itself, where its table declares some.
        time: The field that says when a row is about; absent or null it is now.
        views: Stored features that it uses.
        request_features: Functions that compute features from the request alone.
        profile: The distributions that its live traffic is compared with, if it has one.
        rules: The expectations behind ``check_row``.
        example: A row of the reference sample: the values of those fields that are features too.
        find_explainer: Gives what explains its predictions; slow the first time.
    """

    ref: str
    predictor: Predictor
    signature: Signature
    request: RequestSchema
    check_row: RowCheck
    entity: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    time: str | None = None
    views: tuple[ViewRef, ...] = ()
    request_features: tuple[RequestFeatures, ...] = ()
    profile: Any = None
    rules: tuple[Rule, ...] = ()
    example: dict[str, Any] = {}
    find_explainer: Callable[[], Explainer] | None = None

    @cached_property
    def field_types(self) -> pl.Schema:
        """The Polars types of a request's fields."""
        return self.request.schema.to_polars()

    @cached_property
    def input_types(self) -> pl.Schema:
        """The Polars types of the model's inputs, in their order."""
        return self.signature.features.to_polars()

    @cached_property
    def instants(self) -> tuple[Field, ...]:
        """The fields that hold dates or instants, which JSON has as text."""
        return tuple(field for field in self.request.schema.fields if field.dtype in ("datetime", "date"))

    @property
    def sticky_keys(self) -> tuple[str, ...]:
        """The fields by which traffic is divided."""
        return self.entity or self.key


class Loader(Protocol):
    """Brings versions into memory."""

    def load(self, ref: str) -> LoadedVersion:
        """Return a version ready to answer; slow, so that callers keep what they get.

        Raises:
            FlyballError: The version does not exist, its package is damaged, or its runtime is not installed.
        """
        ...


class FeatureLookup(Protocol):
    """Looks up stored features; `FeatureService` does."""

    def complete(
        self, requests: Sequence[Mapping[str, Any]], views: Sequence[ViewRef], at: datetime | Sequence[datetime]
    ) -> Completed:
        """Return the features of requests as they stand at an instant, or at one for each request.

        Raises:
            NotMaterialisedError: A view's version was never written to the online store.
            BackendUnavailableError: The online store did not answer.
        """
        ...

    def read_rows(
        self, view: ViewRef, keys: Sequence[Sequence[Any]], at: datetime | Sequence[datetime]
    ) -> list[OnlineFeatures | None]:
        """Return what `complete` puts into a frame, as plain values: one row an entity, None where there is none."""
        ...


def load_package(
    ref: str,
    package: Package,
    runtimes: Runtimes,
    *,
    request_features: Sequence[RequestFeatures] = (),
    spine: Table | None = None,
    shelf: "Shelf | None" = None,
) -> LoadedVersion:
    """Make a package ready to answer.

    Args:
        ref: The version.
        package: Its opened package.
        runtimes: Run its model.
        request_features: The functions of the package's own source that its plan names, in any order.
        spine: The table of the package's own source whose rows are the requests; tells entity and key apart where the
            plan does not.
        shelf: Keeps the model, which may leave the memory then; it stays without one.

    Raises:
        NotFoundError: The plan names a function that is not given.
        PluginError: The model's runtime cannot be loaded.
    """
    plan = package.features
    functions = {function.name: function for function in request_features}
    missing = [name for name in plan.request_features if name not in functions]
    if missing:
        raise NotFoundError(
            f"the source of {ref} has no request features {', '.join(map(repr, missing))}",
            hint="Train the model again with: flyball run PIPELINE",
        )
    entity, key = _find_keys(plan, spine)
    if shelf is None:
        predictor = package.load_predictor(runtimes)
    else:
        predictor = shelf.keep(ref, package.served_bytes(runtimes), partial(package.load_predictor, runtimes))
    rules = package.expectations
    optional = [plan.time] if plan.time else []
    return LoadedVersion(
        ref=ref,
        predictor=predictor,
        signature=package.signature,
        request=RequestSchema(plan.request, optional=optional),
        check_row=compile_row(rules, plan.request.names, schema=plan.request),
        entity=entity,
        key=key,
        time=plan.time if plan.time in plan.request.names else None,
        views=tuple(
            ViewRef(
                view.name, view.version, None if view.ttl_us is None else timedelta(microseconds=view.ttl_us), view.keys
            )
            for view in plan.views
        ),
        request_features=tuple(functions[name] for name in plan.request_features),
        profile=package.profile,
        rules=tuple(rules),
        example=_find_example(package, plan),
        find_explainer=cache(lambda: package.load_explainer(runtimes, predictor)),
    )


def _find_example(package: Package, plan: FeaturePlan) -> dict[str, Any]:
    """Return the reference's first row that lacks nothing, as far as requests have its columns."""
    reference = package.reference()
    known = reference.select(name for name in plan.request.names if name in reference.columns)
    whole = known.drop_nulls()
    row = next((whole if whole.height else known).head(1).iter_rows(named=True), {})
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()}


def _find_keys(plan: FeaturePlan, spine: Table | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return entity and key columns: as the table declares them, else as labels and views use them."""
    if plan.entity is not None:
        return plan.entity, plan.row_key or ()
    if spine is not None:
        return tuple(spine.entity.keys) if spine.entity else (), tuple(spine.key)
    rule = msgspec.convert(plan.label, LabelRule) if plan.label else None
    if rule is not None and rule.match == "entity":
        return rule.keys, tuple(name for name in plan.keys if name not in rule.keys)
    if plan.views:
        return plan.views[0].keys, rule.keys if rule is not None else ()
    return (), plan.keys
