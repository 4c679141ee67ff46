"""How often the loop does what costs the more the more traffic there was."""

from datetime import timedelta

_ROWS_A_SECOND = 5_000
_LONGEST = timedelta(minutes=10)


def pause_after(rows: int) -> timedelta:
    """Return how long to wait after a look at so many predictions before the next one reads them again."""
    return min(timedelta(seconds=rows / _ROWS_A_SECOND), _LONGEST)
