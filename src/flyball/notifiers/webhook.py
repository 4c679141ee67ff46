"""Alerts as JSON, posted to an address."""

import http.client
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from flyball.core.encoding import to_json
from flyball.core.errors import BackendError, BackendUnavailableError, InvalidInputError
from flyball.domain.monitoring.notifiers import Notification

TIMEOUT_S = 5.0
_WORTH_RETRYING = {408, 425, 429}


class WebhookNotifier:
    """Posts each alert as one JSON object; any answer of 200 to 299 means that it has arrived.

    The header ``Idempotency-Key`` holds the event's number, since the same alert may be posted twice.

    Args:
        address: An http or https URL.
        timeout_s: How long connecting, and each wait for an answer, may take.

    Raises:
        InvalidInputError: The address is no such URL.
    """

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInputError(
                f"{address!r} is not an address that alerts can be posted to",
                hint="Write it as webhook:https://HOST/PATH.",
            )
        self._address = address
        # An address may carry a secret in its path or query, so errors name the host only.
        self._host = parts.hostname
        self._timeout_s = timeout_s
        self._opener = build_opener(_NoRedirects)

    def send(self, notification: Notification) -> None:
        """See `Notifier.send`."""
        request = Request(
            self._address,
            data=to_json(notification),
            method="POST",
            headers={"Content-Type": "application/json", "Idempotency-Key": str(notification.id)},
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s):
                return
        except HTTPError as error:
            error.close()
            kind = BackendUnavailableError if _is_worth_retrying(error.code) else BackendError
            raise kind(f"the webhook at {self._host} answered {error.code} {error.reason}") from error
        except URLError as error:
            raise BackendUnavailableError(f"the webhook at {self._host} cannot be reached: {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise BackendUnavailableError(f"the webhook at {self._host} gave no answer: {reason}") from error


class _NoRedirects(HTTPRedirectHandler):
    """Refuses redirects: urllib would turn the POST into a GET without the alert."""

    def redirect_request(self, *_: object) -> None:
        return None


def _is_worth_retrying(status: int) -> bool:
    return status >= 500 or status in _WORTH_RETRYING
