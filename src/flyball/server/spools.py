"""Takes up what programs of the home left in their spools when they were killed."""

import logging
import threading

from flyball.core.errors import FlyballError
from flyball.workspace.home import Home
from flyball.workspace.live_runs import HomeDestination, send_spooled_to

_EVERY_S = 5.0
_log = logging.getLogger("flyball.run")


def start_taking_up(home: Home) -> None:
    """Look every few seconds, in a thread that ends with the process."""
    threading.Thread(target=_work, args=(home,), name="spools", daemon=True).start()


def _work(home: Home) -> None:
    destination = HomeDestination(home.project_dir, home.home)
    pause = threading.Event()
    while True:
        try:
            for run_id in send_spooled_to(home.home, destination):
                _log.info("run %s, which its program left unfinished, is kept", run_id)
        except FlyballError as error:
            _log.warning("a spool cannot be kept yet: %s", error)
        except Exception:  # noqa: BLE001 - the thread's edge: the next round may do better
            _log.exception("taking up spools failed")
        pause.wait(_EVERY_S)
