"""Model versions as values, and the rules of how their status changes."""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

import msgspec

from flyball.core.errors import ConflictError, InvalidInputError, NotFoundError

VersionRef = NewType("VersionRef", str)
"""``credit-risk/3``: a model's name and the version's number."""

# A number that a database keeps has 64 bits.
_MOST_DIGITS = 18
_LONGEST_SHOWN = 150
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Status(StrEnum):
    """How far a version has come."""

    CANDIDATE = "candidate"
    REJECTED = "rejected"
    AWAITING_APPROVAL = "awaiting-approval"
    APPROVED = "approved"
    ARCHIVED = "archived"


class Change(StrEnum):
    """What can happen to a version."""

    GATES_FAILED = "its gates failed"
    GATES_PASSED = "its gates passed, and approval is automatic"
    GATES_PASSED_AWAITING = "its gates passed, and a role must approve"
    APPROVED = "it is approved"
    REJECTED = "it is rejected"
    ARCHIVED = "it is archived"


_AFTER_GATES = {
    Change.GATES_FAILED: Status.REJECTED,
    Change.GATES_PASSED: Status.APPROVED,
    Change.GATES_PASSED_AWAITING: Status.AWAITING_APPROVAL,
}


def next_status(ref: str, status: Status, change: Change, reasons: Sequence[str] = ()) -> Status:
    """Return the status that follows.

    ::

        candidate ──gates──> rejected | awaiting-approval | approved      gates may be judged again from any of these
        awaiting-approval ──a user of the role──> approved | rejected
        any but archived ──archive──> archived                            archived is the end

    Args:
        ref: The version.
        status: Where it stands.
        change: What is asked for.
        reasons: Why its gates said no, if they did.

    Raises:
        StatusForbidsError: A version of that status cannot change so.
    """
    if status is Status.ARCHIVED:
        raise StatusForbidsError(ref, status, change)
    if change in _AFTER_GATES:
        return _AFTER_GATES[change]
    if change is Change.ARCHIVED:
        return Status.ARCHIVED
    if status is not Status.AWAITING_APPROVAL:
        raise StatusForbidsError(ref, status, change, reasons)
    return Status.APPROVED if change is Change.APPROVED else Status.REJECTED


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's yes to a version: a signature under the evidence that was there.

    Attributes:
        user: Who; None where the policy is automatic.
        role: The role it was given in; ``auto`` where the policy is automatic.
        evidence: The digest of the evidence that was signed.
        approved_at: When.
        event: The number of the journal's event.
        is_void: Whether the evidence changed afterwards.
    """

    user: str | None
    role: str
    evidence: str
    approved_at: datetime
    event: int
    is_void: bool = False


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a model.

    Attributes:
        model: The model's name.
        number: 1 is the first.
        status: How far it has come.
        package_digest: The package that holds it.
        metrics: What the pipeline's evaluation returned.
        run_id: The run that made it.
        lineage: What it was made from: snapshots, views, code; as the training set tells it.
        description: What its author said of it.
        evidence: The digest of the evidence of its gates; empty before they are judged.
        created_at: When.
        created_by: Who or what made it.
        source: What a client made it from, as the client names it; empty for those that Flyball trains.
        location: Where a client's files are.
        content_digest: The digest of those files' names and digests as they were at registration.
        logged_model: The id of the logged model that it was made from.
        run_link: A client's address of the run.
        stage: What clients call its stage.
        updated_at: When it was changed last; None where it never was.
        is_deleted: Whether clients deleted it; it can only be looked back at then.
    """

    model: str
    number: int
    status: Status
    package_digest: str
    metrics: dict[str, float]
    run_id: str = ""
    lineage: dict[str, Any] = {}
    description: str = ""
    evidence: str = ""
    created_at: datetime
    created_by: str = "system"
    source: str = ""
    location: str = ""
    content_digest: str = ""
    logged_model: str = ""
    run_link: str = ""
    stage: str = "None"
    updated_at: datetime | None = None
    is_deleted: bool = False

    @property
    def ref(self) -> VersionRef:
        """``credit-risk/3``."""
        return make_ref(self.model, self.number)

    @property
    def digest(self) -> str:
        """What its evidence is about: its package, or the files that a client registered and nothing packaged yet."""
        return self.package_digest or self.content_digest


def make_ref(model: str, number: int) -> VersionRef:
    """Return the text form of a version."""
    return VersionRef(f"{model}/{number}")


def parse_ref(text: str) -> tuple[str, int]:
    """Read ``credit-risk/3``.

    Raises:
        InvalidInputError: It is not a model's name, a slash and a number.
    """
    model, slash, number = text.rpartition("/")
    is_number = number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS and int(number) >= 1
    if not slash or not model or not is_number:
        raise InvalidInputError(
            f"{text[:_LONGEST_SHOWN]!r} is not a model version", hint="Write it as NAME/NUMBER, such as churn/7."
        )
    return model, int(number)


def check_model_name(name: str) -> str:
    """Return a model's name if it is one.

    Raises:
        InvalidInputError: It has signs that do not belong into addresses and file names.
    """
    if not isinstance(name, str) or not _MODEL_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is not a name for a model",
            hint="Use letters, digits, '-', '_' and '.', starting with a letter or digit: credit-risk.",
        )
    return name


class StatusForbidsError(ConflictError):
    """The version's status does not allow what was asked."""

    code = "registry/status-forbids"

    def __init__(self, ref: str, status: Status, change: Change, reasons: Sequence[str] = ()) -> None:
        if status is Status.ARCHIVED:
            hint = "An archived version stays archived; train a new one."
        elif change is Change.APPROVED and status is Status.REJECTED:
            hint = f"Its gates say no: {'; '.join(reasons)}" if reasons else "Who had to sign it said no."
        elif change is Change.APPROVED and status is Status.CANDIDATE:
            hint = "Its gates have not been judged yet."
        else:
            hint = ""
        super().__init__(
            f"version {ref!r} is {status}: a version of that status cannot change so that {change}", hint=hint
        )


class NotApprovedError(ConflictError):
    """Only an approved version may be given traffic."""

    code = "registry/not-approved"

    def __init__(self, ref: str, status: Status, alias: str, reasons: Sequence[str] = ()) -> None:
        hint = f"Approve it first: flyball approve {ref} --as USER" if status is Status.AWAITING_APPROVAL else ""
        if status is Status.CANDIDATE:
            hint = "Its gates are judged by the loop, in a moment: see flyball status."
        why = f": {'; '.join(reasons)}" if reasons else ""
        super().__init__(f"version {ref!r} is {status}, so it cannot become {alias}{why}", hint=hint)


class EvidenceChangedError(ConflictError):
    """The evidence is no longer what was signed."""

    code = "registry/evidence-changed"

    def __init__(self, ref: str, reason: str) -> None:
        super().__init__(
            f"the approval of {ref!r} is void: {reason}",
            hint="Judge the gates again with a new run, and approve what comes out.",
        )


class UnknownVersionError(NotFoundError):
    """The model has no version of that number."""

    code = "registry/unknown-version"

    def __init__(self, model: str, number: int, last: int) -> None:
        there = "it has none" if not last else "its only version is 1" if last == 1 else f"its versions are 1 to {last}"
        super().__init__(f"the model {model!r} has no version {number}; {there}")
