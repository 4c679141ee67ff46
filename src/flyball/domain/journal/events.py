"""What happened, as values."""

from datetime import datetime
from typing import Any

import msgspec

from flyball.core.durations import to_us
from flyball.core.errors import BackendError
from flyball.core.hashing import digest_value

GENESIS = "0" * 64
"""What the first event has in place of its predecessor's digest."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of the journal.

    Attributes:
        seq: Its number; 1 is the first, and there are no gaps.
        kind: What happened, as ``room.thing.verb``, such as ``registry.alias.moved``.
        subject: What it happened to, as ``thing/name``, such as ``endpoint/credit``.
        event_time: When it held in the world.
        recorded_at: When the journal knew it.
        actor: Who or what did it, such as ``loop`` or ``user/ana``.
        cause: The event that brought it about.
        data: Identities, figures and digests; never a person's values.
        previous: The digest of event ``seq - 1``.
        digest: The SHA-256 of all of the above.
    """

    seq: int
    kind: str
    subject: str
    event_time: datetime
    recorded_at: datetime
    actor: str
    cause: int | None
    data: dict[str, Any]
    previous: str
    digest: str = ""

    def compute_digest(self) -> str:
        """Return the digest that this event must carry."""
        return digest_value(
            [
                self.seq,
                self.kind,
                self.subject,
                to_us(self.event_time),
                to_us(self.recorded_at),
                self.actor,
                self.cause,
                self.data,
                self.previous,
            ]
        )


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What `Journal.verify` found.

    Attributes:
        events: How many events were read.
        head: The digest of the last one; noted elsewhere, it also proves that no tail was cut off.
        broken_at: The number of the first event that does not fit, or None.
        reason: What does not fit.
    """

    events: int
    head: str
    broken_at: int | None = None
    reason: str = ""


class JournalCorruptedError(BackendError):
    """A row of the journal cannot be read or does not fit the chain."""

    code = "journal/corrupted"

    def __init__(self, seq: int, reason: str) -> None:
        self.seq = seq
        super().__init__(
            f"event {seq} of the journal is corrupted: {reason}",
            hint="See the extent with: flyball audit verify; then restore the home from a backup.",
        )
