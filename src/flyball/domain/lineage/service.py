"""The one way into lineage."""

from collections.abc import Iterator

import msgspec

from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.domain.journal.events import Event
from flyball.domain.journal.service import Journal
from flyball.domain.lineage.graph import KINDS, derive_edges, reach, trace_back

_PAGE = 1_000
_THINGS = ("snapshot", "run", "version")


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """What lies before and behind one thing.

    Attributes:
        subject: The thing, as ``thing/name``.
        came_from: What it was made from, sorted.
        reached: What was made from it, sorted.
    """

    subject: str
    came_from: list[str]
    reached: list[str]


class LineageService:
    """Answers what came from what, from the journal alone.

    Args:
        journal: The spine.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def find_impact(self, subject: str) -> Impact:
        """Return what a thing came from and what it reached.

        Args:
            subject: ``snapshot/ID``, ``run/ID`` or ``version/MODEL/NUMBER``.

        Raises:
            InvalidInputError: It is not written so.
            NotFoundError: No model was ever made from it, nor it from anything.
        """
        thing, _, name = subject.partition("/")
        if thing not in _THINGS or not name:
            raise InvalidInputError(
                f"{subject!r} names nothing that has a lineage",
                hint="Write snapshot/ID, run/ID or version/MODEL/NUMBER.",
            )
        edges = derive_edges(self._events())
        impact = Impact(subject=subject, came_from=trace_back(edges, subject), reached=reach(edges, subject))
        if not impact.came_from and not impact.reached:
            raise NotFoundError(f"the journal knows of nothing that came from {subject!r} or led to it")
        return impact

    def _events(self) -> Iterator[Event]:
        after = 0
        while page := self._journal.list_events(after=after, kinds=KINDS, limit=_PAGE):
            yield from page
            after = page[-1].seq
