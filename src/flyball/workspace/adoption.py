"""Makes packages of the versions that clients register for the project's endpoints, and has their gates judged."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from flyball.core.errors import FlyballError
from flyball.core.hashing import shorten
from flyball.domain.data.rules import Rule
from flyball.domain.registry.aliases import CHALLENGER, CHAMPION
from flyball.domain.registry.cards import CardFacts
from flyball.domain.registry.evidence import Comparison
from flyball.domain.registry.gates import ChampionGate, GatePlan, LatencyGate, ModelGates
from flyball.domain.registry.latency import measure_latency
from flyball.domain.registry.ledger import Findings
from flyball.domain.registry.packages import FeaturePlan, Package
from flyball.domain.registry.packaging import Contents, build_package
from flyball.domain.registry.projects import ProjectSource
from flyball.domain.registry.runtimes import Runtimes
from flyball.domain.registry.service import RegistryService
from flyball.domain.registry.signatures import infer_signature
from flyball.domain.registry.version_files import digest_of
from flyball.domain.registry.versions import ModelVersion, Status
from flyball.domain.tracking.artifact_service import ArtifactService
from flyball.domain.tracking.artifacts import parse_place
from flyball.runtimes.mlmodels import ClientModel, FlavorUnservedError, load_model, read_example, read_mlmodel

if TYPE_CHECKING:
    import polars as pl

_log = logging.getLogger("flyball.adoption")
_LABEL = "label"


class _Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What surrounds a model in its package."""

    rows: Any
    features: FeaturePlan
    rules: tuple[Rule, ...]
    source: ProjectSource
    label: str


class Adopter:
    """Takes up versions that clients registered for a model that an endpoint names.

    Such a version is packaged like Flyball's own: around its model stand the features, the rules and the sample of
    rows of the version that is live, where the model takes columns that it has; else requests hold the columns
    themselves, and the rows are those of the client's input example.

    Args:
        registry: Where the versions are.
        artifacts: Where their files are.
        runtimes: Run the models.
        plan: Gives what versions must meet.
    """

    def __init__(
        self,
        registry: RegistryService,
        artifacts: ArtifactService,
        runtimes: Runtimes,
        plan: Callable[[], GatePlan],
    ) -> None:
        self._registry = registry
        self._artifacts = artifacts
        self._runtimes = runtimes
        self._plan = plan

    def adopt_all(self) -> None:
        """Declare what endpoints ask for, then package and judge every version that waits; one that cannot be is
        rejected, and its evidence says why."""
        plan = self._plan()
        self._registry.declare(plan)
        for model, gates in plan.models.items():
            for version in self._registry.list_unpackaged(model):
                self._adopt(version, gates)

    def _adopt(self, version: ModelVersion, gates: ModelGates) -> None:
        try:
            package = self._package(version, gates)
            findings = self._find_out(version, package, gates)
            self._registry.adopt(version.ref, package.digest, gates, findings, actor="loop")
        except FlyballError as error:
            _log.warning("version %s cannot be served: %s", version.ref, error.message)
            self._registry.refuse(version.ref, gates, error.message, actor="loop")
        if self._registry.get(version.ref).status is Status.REJECTED:
            for alias in (CHAMPION, CHALLENGER):
                meant = self._registry.find_alias(version.model, alias)
                if meant is not None and meant.number == version.number:
                    self._registry.set_alias(version.model, alias, None, reason="its gates say no", actor="loop")

    def _package(self, version: ModelVersion, gates: ModelGates) -> Package:
        if not version.content_digest:
            raise FlavorUnservedError(f"its files are not kept here, but at {version.location}")
        self._registry.packages_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="flyball-adopt-") as name:
            folder = Path(name)
            self._fetch(version, folder)
            described = read_mlmodel(folder)
            champion = self._champion_package(version.model)
            if champion is not None and set(described.inputs.names) <= set(champion.signature.features.names):
                frame = _frame_of(champion, described.inputs.names)
            else:
                example = read_example(folder, described)
                if example is None or not len(example):
                    raise FlavorUnservedError("it has no input example, so there are no rows to try it on")
                frame = _Frame(
                    rows=example,
                    features=FeaturePlan(features=tuple(example.columns)),
                    rules=(),
                    source=ProjectSource(root=folder, files={}),
                    label=_LABEL,
                )
            model = load_model(folder, described)
            return build_package(
                self._registry.packages_root, _contents(version, model, described, frame, gates), self._runtimes
            )

    def _fetch(self, version: ModelVersion, folder: Path) -> None:
        """Write the version's files, if they are still those that were registered."""
        place = parse_place(version.location)
        if digest_of(place, self._artifacts.walk(place)) != version.content_digest:
            raise FlavorUnservedError("its files are not those that were registered")
        self._artifacts.write_folder(place, folder)

    def _champion_package(self, model: str) -> Package | None:
        champion = self._registry.champion(model)
        return self._registry.open(champion.ref) if champion is not None and champion.package_digest else None

    def _find_out(self, version: ModelVersion, package: Package, gates: ModelGates) -> Findings:
        comparison, latency = None, None
        champion = self._registry.champion(version.model)
        if champion is not None and any(isinstance(gate, ChampionGate) for gate in gates.gates):
            note = "the version was evaluated by the client that registered it"
            comparison = Comparison(champion=champion.ref, metrics=champion.metrics, is_same_data=False, note=note)
        if any(isinstance(gate, LatencyGate) for gate in gates.gates):
            predictor = package.load_predictor(self._runtimes)
            latency = measure_latency(predictor, package.signature, package.reference())
        return Findings(comparison=comparison, latency=latency)


def _frame_of(champion: Package, inputs: list[str]) -> _Frame:
    """Return what surrounds the live version, for a model that takes some of its features."""
    plan = champion.features
    return _Frame(
        rows=champion.reference(),
        features=msgspec.structs.replace(plan, features=tuple(inputs)),
        rules=tuple(champion.expectations),
        source=ProjectSource(
            root=champion.source,
            files={
                path.relative_to(champion.source).as_posix(): path.read_bytes()
                for path in sorted(champion.source.rglob("*.py"))
            },
            module=champion.manifest.module,
        ),
        label=champion.signature.label,
    )


def _contents(
    version: ModelVersion, model: object, described: ClientModel, frame: _Frame, gates: ModelGates
) -> Contents:
    inputs = list(frame.features.features)
    optional = {field.name for field in described.inputs.fields if field.nullable}
    rows = frame.rows.drop_nulls([name for name in inputs if name not in optional])
    if not len(rows):
        raise FlavorUnservedError("no row that it could be tried on has all of its columns")
    if frame.label not in rows.columns:
        rows = _with_answers(model, rows, frame.label)
    signature = infer_signature(model, rows, inputs, frame.label)
    fields = tuple(
        msgspec.structs.replace(field, nullable=field.nullable or field.name in optional)
        for field in signature.features.fields
    )
    signature = msgspec.structs.replace(signature, features=msgspec.structs.replace(signature.features, fields=fields))
    features = frame.features
    if not features.request.fields:
        features = msgspec.structs.replace(features, request=signature.features)
    return Contents(
        model_name=version.model,
        model=model,
        signature=signature,
        training=rows,
        features=features,
        rules=frame.rules,
        source=frame.source,
        card=CardFacts(
            description=version.description,
            rows=len(rows),
            lineage={
                "registered from": version.source,
                "files": shorten(version.content_digest),
                **({"run": version.run_id} if version.run_id else {}),
            },
            metrics=version.metrics,
            plan=gates,
        ),
    )


def _with_answers(model: object, rows: "pl.DataFrame", label: str) -> "pl.DataFrame":
    """Return rows with what the model says of them in place of labels, which nobody gave."""
    import polars as pl

    inputs = rows if hasattr(model, "feature_names_in_") else rows.to_numpy()
    try:
        answers = model.predict(inputs)  # type: ignore[attr-defined]
    except Exception as error:
        raise FlavorUnservedError(f"it cannot predict its input example: {type(error).__name__}: {error}") from error
    return rows.with_columns(pl.Series(label, answers))
