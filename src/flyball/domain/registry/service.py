"""The one way into the registry."""

from datetime import datetime
from pathlib import Path

from flyball.core.clock import Clock
from flyball.core.encoding import from_json, to_canonical_json
from flyball.core.errors import ConflictError, InvalidInputError
from flyball.domain.access.service import AccessService
from flyball.domain.journal.service import Journal
from flyball.domain.registry import store
from flyball.domain.registry.aliases import (
    CHALLENGER,
    CHAMPION,
    AliasMove,
    NoEarlierVersionError,
    number_at,
    rollback_target,
)
from flyball.domain.registry.evidence import Evidence
from flyball.domain.registry.gates import AUTOMATIC, GatePlan, ModelGates
from flyball.domain.registry.ledger import Findings, Ledger, NewVersion
from flyball.domain.registry.lookups import (
    check_alias,
    find_evidence,
    get_version,
    list_aliases,
    list_reasons,
    require_model,
)
from flyball.domain.registry.packages import SIGNATURE, Package, open_package
from flyball.domain.registry.signatures import Signature
from flyball.domain.registry.versions import (
    Approval,
    Change,
    EvidenceChangedError,
    ModelVersion,
    Status,
    next_status,
    parse_ref,
)
from flyball.storage.db import Database, Transaction


class RegistryService:
    """Keeps models, their versions, what their gates said, who approved them and what their aliases mean.

    Each change of state and its event are written together. Safe to call from several threads.

    Args:
        db: Where the registry is kept.
        journal: Where its events go.
        clock: Tells when things happen.
        access: Knows who may approve.
        packages_root: The folder of all packages, each named by its digest.
    """

    def __init__(
        self, db: Database, journal: Journal, clock: Clock, access: AccessService, packages_root: Path
    ) -> None:
        self._db = db
        self._clock = clock
        self._ledger = Ledger(journal, clock)
        self._access = access
        self.packages_root = packages_root

    # Reading

    def get(self, ref: str) -> ModelVersion:
        """Return a version by its reference, such as ``credit-risk/3``.

        Raises:
            InvalidInputError: The text is no reference.
            UnknownNameError: There is no such model.
            UnknownVersionError: The model has no such version.
        """
        with self._db.read() as tx:
            return get_version(tx, ref)

    def list_models(self) -> list[str]:
        """Return the names of all models, sorted."""
        with self._db.read() as tx:
            return store.list_models(tx)

    def list_versions(self, model: str | None = None) -> list[ModelVersion]:
        """Return a model's versions by number, or those of all models.

        Raises:
            UnknownNameError: There is no such model.
        """
        with self._db.read() as tx:
            if model is not None:
                require_model(tx, model)
            return store.list_versions(tx, model)

    def find_newest(self, model: str) -> ModelVersion | None:
        """Return a model's version with the greatest number; None where it has none, or there is no such model."""
        with self._db.read() as tx:
            return store.find_newest(tx, model)

    def list_awaiting(self, model: str) -> list[ModelVersion]:
        """Return a model's versions that wait for a person's approval, by number."""
        with self._db.read() as tx:
            return store.list_awaiting(tx, model)

    def list_reasons(self, version: ModelVersion) -> list[str]:
        """Return why the gates said no to a version; nothing where they did not."""
        with self._db.read() as tx:
            return list_reasons(tx, version)

    def find_alias(
        self, model: str, alias: str, *, at: datetime | None = None, known_at: datetime | None = None
    ) -> ModelVersion | None:
        """Return the version that an alias means, or meant at an instant.

        Args:
            model: The model; an unknown one has no aliases.
            alias: Such as ``champion``.
            at: When it held; now by default.
            known_at: What was recorded later is left out; all is used by default.
        """
        with self._db.read() as tx:
            if at is None and known_at is None:
                number = store.find_alias_now(tx, model, alias)
            else:
                moves = store.list_alias_moves(tx, model, alias)
                number = number_at(moves, at or self._clock.now(), known_at)
            return store.find_version(tx, model, number) if number is not None else None

    def champion(self, model: str) -> ModelVersion | None:
        """Return the version that is live, or None before the first one is."""
        return self.find_alias(model, CHAMPION)

    def previous_champion(self, model: str) -> ModelVersion:
        """Return the version that a rollback goes to: see `rollback_target`.

        Raises:
            UnknownNameError: There is no such model.
            NoEarlierVersionError: No earlier champion is still approved.
        """
        with self._db.read() as tx:
            require_model(tx, model)
            moves = store.list_alias_moves(tx, model, CHAMPION)
            versions = store.list_versions(tx, model)
            approved = {v.number: v for v in versions if v.status is Status.APPROVED and v.package_digest}
        target = rollback_target(moves, approved)
        if target is None:
            raise NoEarlierVersionError(model, moves[-1].number if moves else None)
        return approved[target]

    def history(self, model: str, *, alias: str | None = None, until: datetime | None = None) -> list[AliasMove]:
        """Return what the model's aliases meant over time, oldest first, up to an instant (inclusive)."""
        with self._db.read() as tx:
            moves = store.list_alias_moves(tx, model, alias)
        return [move for move in moves if until is None or move.event_time <= until]

    def evidence(self, ref: str) -> Evidence | None:
        """Return the evidence that holds for a version; None before its gates are judged.

        Raises:
            EvidenceChangedError: The stored evidence is not what its digest says.
        """
        with self._db.read() as tx:
            return find_evidence(tx, get_version(tx, ref))

    def approvals(self, ref: str) -> list[Approval]:
        """Return who approved a version, in order, void signatures too."""
        with self._db.read() as tx:
            version = get_version(tx, ref)
            return store.list_approvals(tx, version.model, version.number)

    def open(self, ref: str) -> Package:
        """Open a version's package and check every file of it.

        Raises:
            PackageDamagedError: A file is missing or is not what the registry made.
        """
        return open_package(self.packages_root / self.get(ref).package_digest)

    def find_label_type(self, ref: str) -> str | None:
        """Return of what type the label was that a version was trained on; None where nobody knows."""
        with self._db.read() as tx:
            known = store.find_version(tx, *parse_ref(ref)) if ref else None
        path = self.packages_root / known.package_digest / SIGNATURE if known and known.package_digest else None
        if path is None or not path.is_file():
            return None
        return from_json(path.read_bytes(), Signature, what=str(path)).label_dtype

    def list_unpackaged(self, model: str) -> list[ModelVersion]:
        """Return a model's versions that clients registered and that wait for a package, by number."""
        with self._db.read() as tx:
            return store.list_unpackaged(tx, model)

    # Changing

    def declare(self, plan: GatePlan) -> None:
        """Keep what the project's endpoints ask of versions, so that clients' versions are held to it too.

        Clients' versions that champion or challenger meant before wait for their gates then.
        """
        plans = {model: to_canonical_json(gates).decode() for model, gates in plan.models.items()}
        with self._db.read() as tx:
            before = store.list_plans(tx)
        if before == plans:
            return
        with self._db.begin() as tx:
            store.put_plans(tx, plans)
            for model in sorted(set(plans) - set(before)):
                for alias in (CHAMPION, CHALLENGER):
                    number = store.find_alias_now(tx, model, alias)
                    version = store.find_version(tx, model, number) if number is not None else None
                    if version is not None and not version.package_digest:
                        store.set_status(tx, model, version.number, Status.CANDIDATE, "")

    def adopt(
        self, ref: str, package_digest: str, plan: ModelGates, findings: Findings, *, actor: str = "system"
    ) -> ModelVersion:
        """Keep the package that a client's version became, and judge its gates: see `evaluate_gates`.

        A version that has a package already, or was deleted meanwhile, stays as it is.
        """
        with self._db.begin() as tx:
            version = get_version(tx, ref)
            if not version.package_digest and not version.is_deleted:
                store.set_package(tx, version.model, version.number, package_digest)
                self._ledger.gate(tx, get_version(tx, ref), plan, findings, actor, None)
            return get_version(tx, ref)

    def refuse(self, ref: str, plan: ModelGates, reason: str, *, actor: str = "system") -> ModelVersion:
        """Reject a client's version that cannot be served or judged; its evidence says why."""
        with self._db.begin() as tx:
            version = get_version(tx, ref)
            if not version.package_digest and not version.is_deleted:
                self._ledger.refuse(tx, version, plan, reason, actor, None)
            return get_version(tx, ref)

    def create_version(self, new: NewVersion, *, actor: str = "system", cause: int | None = None) -> ModelVersion:
        """Register a package as the next version of a model; its gates are not judged yet.

        Raises:
            InvalidInputError: The model's name or a metric cannot be used.
        """
        with self._db.begin() as tx:
            return self._ledger.create(tx, new, actor, cause)

    def register(
        self,
        new: NewVersion,
        plan: ModelGates,
        findings: Findings | None = None,
        *,
        actor: str = "system",
        cause: int | None = None,
    ) -> ModelVersion:
        """Create a version and judge its gates in one transaction: see `create_version` and `evaluate_gates`."""
        with self._db.begin() as tx:
            version = self._ledger.create(tx, new, actor, cause)
            self._ledger.gate(tx, version, plan, findings or Findings(), actor, cause)
            return get_version(tx, version.ref)

    def evaluate_gates(
        self,
        ref: str,
        plan: ModelGates,
        findings: Findings | None = None,
        *,
        actor: str = "system",
        cause: int | None = None,
    ) -> Evidence:
        """Judge a version's gates, keep the evidence, and let the version go on as far as the policy allows.

        It becomes rejected, approved, or awaiting approval by a role. Judged again, the same evidence keeps an
        approval, and other evidence voids it.

        Args:
            ref: The version.
            plan: Its gates, and who says yes.
            findings: The champion's metrics for gates that compare, and what was measured for gates on latency.
            actor: Who or what judges.
            cause: The event that brought it about.

        Raises:
            MetricMissingError: A gate asks for a metric that the version does not have.
            StatusForbidsError: The version is archived.
        """
        with self._db.begin() as tx:
            version = get_version(tx, ref)
            return self._ledger.gate(tx, version, plan, findings or Findings(), actor, cause)

    def approve(self, ref: str, user: str, *, evidence: str | None = None, cause: int | None = None) -> ModelVersion:
        """Sign a version's evidence as a user who has the role that its policy asks for.

        Args:
            ref: The version.
            user: A user's name.
            evidence: The digest that the user looked at; refused if it is no longer the one that holds.
            cause: The event that brought it about.

        Raises:
            StatusForbidsError: The version does not wait for approval: it is rejected, or approved already.
            NotPermittedError: The user is unknown or has not the role.
            EvidenceChangedError: The evidence is not what it was.
        """
        with self._db.begin() as tx:
            version = get_version(tx, ref)
            status = next_status(version.ref, version.status, Change.APPROVED, list_reasons(tx, version))
            held = find_evidence(tx, version)
            if held is None or (evidence is not None and evidence != version.evidence):
                raise EvidenceChangedError(version.ref, "its evidence is not the one that was looked at")
            signer = self._access.require_role(user, held.approval)
            store.set_status(tx, version.model, version.number, status, version.evidence)
            self._ledger.sign(tx, version, held, signer.name, signer.actor, cause)
            return get_version(tx, ref)

    def reject(self, ref: str, user: str, *, reason: str, cause: int | None = None) -> ModelVersion:
        """Say no to a version that waits for approval.

        Raises:
            StatusForbidsError: The version does not wait for approval.
            NotPermittedError: The user is unknown or has not the role.
        """
        with self._db.begin() as tx:
            version = get_version(tx, ref)
            status = next_status(version.ref, version.status, Change.REJECTED)
            held = find_evidence(tx, version)
            signer = self._access.require_role(user, held.approval if held else AUTOMATIC)
            store.set_status(tx, version.model, version.number, status, version.evidence)
            data = {"reasons": [reason], "user": signer.name, "evidence": version.evidence}
            self._ledger.tell(tx, "rejected", version, data, signer.actor, cause)
            return get_version(tx, ref)

    def archive(self, ref: str, *, reason: str, actor: str = "system", cause: int | None = None) -> ModelVersion:
        """Put a version away for good; its package stays, so that the past can be explained.

        Raises:
            ConflictError: An alias still means it.
            StatusForbidsError: It is archived already.
        """
        with self._db.begin() as tx:
            version = get_version(tx, ref)
            status = next_status(version.ref, version.status, Change.ARCHIVED)
            used = list_aliases(tx, version)
            if used:
                raise ConflictError(
                    f"version {version.ref!r} is {' and '.join(used)}, so it cannot be archived",
                    hint="Let another version take its place first.",
                )
            store.set_status(tx, version.model, version.number, status, version.evidence)
            self._ledger.tell(tx, "archived", version, {"reason": reason}, actor, cause)
            return get_version(tx, ref)

    def set_alias(
        self,
        model: str,
        alias: str,
        ref: str | None,
        *,
        reason: str,
        actor: str = "system",
        cause: int | None = None,
        event_time: datetime | None = None,
        tx: Transaction | None = None,
    ) -> AliasMove | None:
        """Let an alias mean a version, or nothing; returns None when it meant that already.

        Args:
            model: The model.
            alias: ``champion``, ``challenger``, or a name of the user's own.
            ref: The version; None takes the alias away.
            reason: Why; kept in the history.
            actor: Who or what moves it.
            cause: The event that brought it about.
            event_time: From when on it held, if not from now on; never in the future.
            tx: The open transaction to move it in, together with what brings it about.

        Raises:
            UnknownNameError: There is no such model.
            InvalidInputError: The version belongs to another model, or the instant is in the future.
            NotApprovedError: Champion and challenger take traffic, so they must be approved.
            EvidenceChangedError: The approval does not hold, since the evidence is not what was signed.
        """
        with self._db.joining(tx) as tx:
            require_model(tx, model)
            version = get_version(tx, ref) if ref is not None else None
            if version is not None:
                check_alias(tx, model, alias, version)
            if event_time is not None and event_time > self._clock.now():
                raise InvalidInputError(
                    f"the alias {alias!r} of {model!r} cannot be moved in the future, at {event_time}"
                )
            number = version.number if version else None
            return self._ledger.move_alias(
                tx, model, alias, number, reason=reason, actor=actor, cause=cause, event_time=event_time
            )
