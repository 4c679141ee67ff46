"""Writes the registry's state and the event that tells of it, inside an open transaction."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from flyball.core.clock import Clock
from flyball.domain.journal.service import Journal
from flyball.domain.registry import store
from flyball.domain.registry.aliases import AliasMove, number_at
from flyball.domain.registry.evidence import (
    Comparison,
    Evidence,
    GateResult,
    Latency,
    check_gates,
    check_metrics,
    judge,
)
from flyball.domain.registry.gates import AUTOMATIC, ModelGates
from flyball.domain.registry.service_tests import TestResult
from flyball.domain.registry.versions import (
    Approval,
    Change,
    ModelVersion,
    Status,
    check_model_name,
    make_ref,
    next_status,
)
from flyball.storage.db import Transaction


class NewVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes a version: see `ModelVersion`."""

    model: str
    package_digest: str
    metrics: Mapping[str, Any]
    run_id: str = ""
    lineage: dict[str, Any] = {}
    description: str = ""
    source: str = ""
    location: str = ""
    content_digest: str = ""
    logged_model: str = ""
    run_link: str = ""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a version, besides its own metrics, for its gates to judge."""

    comparison: Comparison | None = None
    latency: Latency | None = None
    tested: tuple[TestResult, ...] = ()


class Ledger:
    """Every change of the registry in one place.

    Args:
        journal: Where the events go.
        clock: Tells when.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock

    def create(self, tx: Transaction, new: NewVersion, actor: str, cause: int | None) -> ModelVersion:
        """Add the next version of a model."""
        now = self._clock.now()
        # Clients may register names that Flyball's own models cannot have.
        model = new.model if store.has_model(tx, new.model) else check_model_name(new.model)
        store.put_model(tx, model, now)
        version = ModelVersion(
            model=model,
            number=store.last_number(tx, new.model) + 1,
            status=Status.CANDIDATE,
            package_digest=new.package_digest,
            metrics=check_metrics(new.model, new.metrics),
            run_id=new.run_id,
            lineage=new.lineage,
            description=new.description,
            created_at=now,
            created_by=actor,
            source=new.source,
            location=new.location,
            content_digest=new.content_digest,
            logged_model=new.logged_model,
            run_link=new.run_link,
            updated_at=now,
        )
        store.append_version(tx, version)
        data = {
            "package": version.package_digest,
            **({"source": version.source, "content": version.content_digest} if version.source else {}),
            "run": version.run_id,
            "metrics": version.metrics,
            "snapshots": version.lineage.get("snapshots") or {},
        }
        self.tell(tx, "created", version, data, actor, cause)
        return version

    def gate(
        self,
        tx: Transaction,
        version: ModelVersion,
        plan: ModelGates,
        findings: Findings,
        actor: str,
        cause: int | None,
    ) -> Evidence:
        """Judge a version's gates, keep the evidence, and change the status by it."""
        check_gates(version.model, plan.gates, version.metrics)
        evidence = Evidence(
            version=version.ref,
            package_digest=version.digest,
            metrics=version.metrics,
            approval=plan.approval,
            results=tuple(judge(plan.gates, version.metrics, findings.comparison, findings.latency, findings.tested)),
            comparison=findings.comparison,
            latency=findings.latency,
        )
        if version.status is not Status.APPROVED or version.evidence != evidence.digest:
            self._accept(tx, version, evidence, actor, cause)
        return evidence

    def refuse(
        self, tx: Transaction, version: ModelVersion, plan: ModelGates, reason: str, actor: str, cause: int | None
    ) -> Evidence:
        """Reject a version that cannot be judged, with evidence that says why."""
        result = GateResult(name="can be served", passed=False, value=None, limit=None, reason=reason)
        evidence = Evidence(
            version=version.ref,
            package_digest=version.digest,
            metrics=version.metrics,
            approval=plan.approval,
            results=(result,),
        )
        self._accept(tx, version, evidence, actor, cause)
        return evidence

    def sign(
        self,
        tx: Transaction,
        version: ModelVersion,
        evidence: Evidence,
        user: str | None,
        actor: str,
        cause: int | None,
    ) -> None:
        """Keep an approval: a signature under the evidence's digest."""
        data = {"evidence": evidence.digest, "role": evidence.approval, "user": user}
        event = self.tell(tx, "approved", version, data, actor, cause)
        approval = Approval(
            user=user,
            role=evidence.approval,
            evidence=evidence.digest,
            approved_at=self._clock.now(),
            event=event,
        )
        store.append_approval(tx, version, approval)

    def move_alias(
        self,
        tx: Transaction,
        model: str,
        alias: str,
        number: int | None,
        *,
        reason: str,
        actor: str,
        cause: int | None,
        event_time: datetime | None,
    ) -> AliasMove | None:
        """Let an alias mean another version; None when it meant that one already."""
        now = self._clock.now()
        if event_time is None:
            before = store.find_alias_now(tx, model, alias)
        else:
            before = number_at(store.list_alias_moves(tx, model, alias), event_time)
        if before == number:
            return None
        data = {
            "model": model,
            "alias": alias,
            "from": make_ref(model, before) if before else None,
            "to": make_ref(model, number) if number else None,
            "reason": reason,
        }
        held_from = event_time or now
        event = self._journal.append(
            tx, "registry.alias.moved", f"model/{model}", data, event_time=held_from, actor=actor, cause=cause
        )
        move = AliasMove(
            model=model,
            alias=alias,
            number=number,
            previous=before,
            reason=reason,
            actor=actor,
            event_time=held_from,
            recorded_at=now,
            event=event.seq,
        )
        store.append_alias_move(tx, move)
        return move

    def tell(
        self, tx: Transaction, what: str, version: ModelVersion, data: dict[str, Any], actor: str, cause: int | None
    ) -> int:
        """Append the event ``registry.version.WHAT`` and return its number."""
        event = self._journal.append(
            tx,
            f"registry.version.{what}",
            f"version/{version.ref}",
            {"model": version.model, "version": version.ref, **data},
            actor=actor,
            cause=cause,
        )
        return event.seq

    def _accept(
        self, tx: Transaction, version: ModelVersion, evidence: Evidence, actor: str, cause: int | None
    ) -> None:
        if not evidence.passed:
            change = Change.GATES_FAILED
        elif evidence.approval == AUTOMATIC:
            change = Change.GATES_PASSED
        else:
            change = Change.GATES_PASSED_AWAITING
        status = next_status(version.ref, version.status, change)
        failed = [result for result in evidence.results if not result.passed]
        store.put_evidence(tx, version, evidence, self._clock.now())
        store.set_status(tx, version.model, version.number, status, evidence.digest)
        data = {
            "evidence": evidence.digest,
            "passed": evidence.passed,
            "failed": [result.name for result in failed],
            "status": status.value,
            "approval": evidence.approval,
            "voided": store.void_approvals(tx, version.model, version.number, evidence.digest),
        }
        gated = self.tell(tx, "gated", version, data, actor, cause)
        if status is Status.REJECTED:
            reasons = [result.reason for result in failed]
            self.tell(tx, "rejected", version, {"reasons": reasons, "evidence": evidence.digest}, actor, gated)
        elif status is Status.APPROVED:
            self.sign(tx, version, evidence, None, actor, gated)
