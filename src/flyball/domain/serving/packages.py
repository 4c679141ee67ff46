"""From a package on disk to a version in memory."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from flyball.core.errors import NotFoundError
from flyball.domain.data.requests import RequestSchema
from flyball.domain.data.row_checks import compile_row
from flyball.domain.data.tables import Table
from flyball.domain.features.labels import LabelRule
from flyball.domain.features.training_sets import ViewRef
from flyball.domain.features.views import RequestFeatures
from flyball.domain.registry.packages import FeaturePlan, Package
from flyball.domain.registry.runtimes import Runtimes
from flyball.domain.serving.loaded import LoadedVersion


def load_package(
    ref: str,
    package: Package,
    runtimes: Runtimes,
    *,
    request_features: Sequence[RequestFeatures] = (),
    spine: Table | None = None,
) -> LoadedVersion:
    """Make a package ready to answer.

    Args:
        ref: The version.
        package: Its opened package.
        runtimes: Run its model.
        request_features: The functions of the package's own source that its plan names, in any order.
        spine: The table of the package's own source whose rows are the requests; tells entity and key apart.

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
    optional = [plan.time] if plan.time else []
    return LoadedVersion(
        ref=ref,
        predictor=package.load_predictor(runtimes),
        signature=package.signature,
        request=RequestSchema(plan.request, optional=optional),
        check_row=compile_row(package.expectations, plan.request.names),
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
    )


def _find_keys(plan: FeaturePlan, spine: Table | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return entity and key columns: as the table declares them, else as labels and views use them."""
    if spine is not None:
        return tuple(spine.entity.keys) if spine.entity else (), tuple(spine.key)
    rule = msgspec.convert(plan.label, LabelRule) if plan.label else None
    if rule is not None and rule.match == "entity":
        return rule.keys, tuple(name for name in plan.keys if name not in rule.keys)
    if plan.views:
        return plan.views[0].keys, rule.keys if rule is not None else ()
    return (), plan.keys
