"""Tells webhooks of the registry what happens in it."""

from flyball.domain.monitoring.courier import Courier
from flyball.domain.monitoring.deliveries import Patience
from flyball.workspace.home import Home

# A receiver that answers nothing for a quarter of an hour misses an event; those that follow are told.
_PATIENCE = Patience(rounds=6)


def start_telling(home: Home) -> Courier:
    """Tell webhooks, in a thread that ends with the process."""
    courier = Courier(home.db, home.journal, home.clock, {}, _PATIENCE, find_receivers=home.webhooks.receivers)
    courier.start()
    return courier
