"""Finds versions and their evidence inside a transaction, and checks what must hold before they are used."""

from flyball.core.encoding import from_json
from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.core.hashing import digest_bytes
from flyball.domain.registry import store
from flyball.domain.registry.aliases import CHALLENGER, CHAMPION
from flyball.domain.registry.evidence import Evidence
from flyball.domain.registry.gates import ModelGates
from flyball.domain.registry.versions import (
    EvidenceChangedError,
    ModelVersion,
    NotApprovedError,
    Status,
    UnknownVersionError,
    parse_ref,
)
from flyball.storage.db import Transaction


def get_version(tx: Transaction, ref: str) -> ModelVersion:
    """Return a version by its reference.

    Raises:
        InvalidInputError: The text is no reference.
        UnknownNameError: There is no such model.
        UnknownVersionError: The model has no such version.
    """
    model, number = parse_ref(ref)
    version = store.find_version(tx, model, number)
    if version is None:
        require_model(tx, model)
        raise UnknownVersionError(model, number, store.last_number(tx, model))
    return version


def require_model(tx: Transaction, model: str) -> None:
    """Check that a model has versions.

    Raises:
        UnknownNameError: There is no such model.
    """
    if not store.last_number(tx, model):
        raise UnknownNameError("model", model, store.list_models(tx), hint="Train one with: flyball run PIPELINE")


def find_evidence(tx: Transaction, version: ModelVersion) -> Evidence | None:
    """Return the evidence that holds, after checking that nobody changed it or what it speaks of.

    Raises:
        EvidenceChangedError: It is not what its digest says, or the version is not the one that was judged.
    """
    if not version.evidence:
        return None
    content = store.find_evidence(tx, version)
    if content is None or digest_bytes(content.encode()) != version.evidence:
        raise EvidenceChangedError(version.ref, "the stored evidence is not what its digest says")
    evidence = from_json(content, Evidence, what=f"the evidence of {version.ref}")
    if evidence.package_digest != version.digest or evidence.metrics != version.metrics:
        raise EvidenceChangedError(version.ref, "its package or its metrics are not those that the gates judged")
    return evidence


def find_plan(tx: Transaction, model: str) -> ModelGates | None:
    """Return what an endpoint of the project asks of a model's versions; None where no endpoint names it."""
    content = store.find_plan(tx, model)
    return None if content is None else from_json(content, ModelGates, what=f"the gates of {model}")


def check_alias(tx: Transaction, model: str, alias: str, version: ModelVersion) -> None:
    """Check that an alias may mean a version: champion and challenger take traffic, so they must be approved.

    Raises:
        InvalidInputError: The version belongs to another model.
        NotApprovedError: It is not approved.
        EvidenceChangedError: It is, but nobody signed the evidence that holds now.
    """
    if version.model != model:
        raise InvalidInputError(f"{version.ref!r} is no version of the model {model!r}")
    if alias not in (CHAMPION, CHALLENGER):
        return
    if version.status is not Status.APPROVED:
        raise NotApprovedError(version.ref, version.status, alias, list_reasons(tx, version))
    evidence = find_evidence(tx, version)
    signed = {
        approval.evidence
        for approval in store.list_approvals(tx, version.model, version.number)
        if not approval.is_void
    }
    if evidence is None or evidence.digest not in signed:
        raise EvidenceChangedError(version.ref, "nobody signed the evidence that holds now")


def list_reasons(tx: Transaction, version: ModelVersion) -> list[str]:
    """Return why the gates said no to a version; nothing where they did not."""
    evidence = find_evidence(tx, version)
    return [result.reason for result in evidence.results if not result.passed] if evidence is not None else []


def list_aliases(tx: Transaction, version: ModelVersion) -> list[str]:
    """Return the aliases that mean a version now, sorted."""
    means = store.list_aliases_now(tx, version.model)
    return [alias for alias, number in means.items() if number == version.number]
