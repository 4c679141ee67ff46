"""Takes up what programs of the home left in their spools when they were killed."""

import logging
import threading

from flyball.workspace.home import Home
from flyball.workspace.live_runs import send_spools

_EVERY_S = 5.0
_log = logging.getLogger("flyball.run")


def start_taking_up(home: Home) -> None:
    """Look every few seconds, in a thread that ends with the process."""
    threading.Thread(target=_work, args=(home,), name="spools", daemon=True).start()


def _work(home: Home) -> None:
    waiting: dict[str, str] = {}
    pause = threading.Event()
    while True:
        try:
            sent = send_spools(home.project_dir, home.home)
            for run_id in sent.complete:
                _log.info("run %s, which its program left unfinished, is kept", run_id)
            for run_id, reason in sent.refused.items():
                _log.warning("run %s cannot be completed, so its spool is set aside: %s", run_id, reason)
            for run_id in sent.waiting.keys() - waiting.keys():
                _log.warning("run %s cannot be sent yet: %s", run_id, sent.waiting[run_id])
            waiting = sent.waiting
        except Exception:  # noqa: BLE001 - the thread's edge: the next round may do better
            _log.exception("taking up spools failed")
        pause.wait(_EVERY_S)
