"""What an online store can do."""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple, Protocol

_key_of = itemgetter(0)


class OnlineRow(NamedTuple):
    """One entity's values at one time.

    Attributes:
        key: The entity, as bytes.
        event_time_us: When the values held, in microseconds (`core.durations.to_us`).
        known_us: From when on they were known. Of two rows with one event time the later known is the newer, so a
            correction replaces what it corrects.
        payload: The values; the store does not look into them.
    """

    key: bytes
    event_time_us: int
    known_us: int
    payload: bytes


class OnlineStore(Protocol):
    """The newest row of each entity of each view, read on the request path.

    One file per backend in this package; each passes ``flyball.testing.online_store.ONLINE_STORE_CHECKS``.
    Safe to call from several threads and processes. A write outlives the process when it returns (a power cut may take
    the last ones back, in their order), and doing it again changes nothing. After a crash a `replace` is there whole or
    not at all; of a `write` either all rows are there or, on a server, the first batches of them.
    """

    def write(self, view: str, rows: Sequence[OnlineRow], *, copy: str | None = None) -> int:
        """Keep, for each key, the row with the greatest ``(event_time_us, known_us)``.

        Args:
            view: The view and its version, as ``name@version``.
            rows: Any order; a key may occur more than once; a tie keeps the stored row.
            copy: Another view that takes the rows in the same way, in the same step.

        Returns:
            How many keys of ``view`` now hold another row (0 if every row was late).

        Raises:
            BackendUnavailableError: The store did not answer; what was written stays right, and a repetition does the
                rest.
        """
        ...

    def replace(self, view: str, rows: Sequence[OnlineRow]) -> int:
        """Make the view hold exactly ``rows``: older ones replace newer ones, and keys that are not given go.

        Args:
            view: As in `write`.
            rows: As in `write`; of several rows with one key the newest is kept, of ties the first.

        Returns:
            How many keys now hold another row, or none.

        Raises:
            BackendUnavailableError: The store did not answer; nothing was written.
        """
        ...

    def read(self, view: str, keys: Sequence[bytes]) -> list[OnlineRow | None]:
        """Return one entry per key, in the order of ``keys``; None where there is no row.

        Raises:
            BackendUnavailableError: The store did not answer.
        """
        ...

    def delete(self, view: str, keys: Sequence[bytes]) -> int:
        """Forget the rows of some keys and return how many there were.

        Raises:
            BackendUnavailableError: The store did not answer; nothing was deleted.
        """
        ...

    def scan(self, view: str) -> Iterator[OnlineRow]:
        """Yield every row of a view, in no order; of rows that change meanwhile either state.

        Raises:
            BackendUnavailableError: The store did not answer.
        """
        ...


def newest_rows(rows: Sequence[OnlineRow]) -> dict[bytes, OnlineRow]:
    """Return the newest row of each key; of ties the first."""
    newest = dict(zip(map(_key_of, rows), rows, strict=True))
    if len(newest) == len(rows):  # as nearly always
        return newest
    newest = {}
    for row in rows:
        kept = newest.get(row.key)
        if kept is None or is_newer(row, kept):
            newest[row.key] = row
    return newest


def is_newer(row: OnlineRow, than: OnlineRow) -> bool:
    """Tell whether a row replaces another of the same key."""
    return (row.event_time_us, row.known_us) > (than.event_time_us, than.known_us)
