"""Posts what happens in the registry to the addresses that clients named, signed, and never into a private network."""

import base64
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from flyball.core.clock import Clock
from flyball.core.errors import BackendError, BackendUnavailableError
from flyball.domain.monitoring.webhooks import Answer, Message, Webhook, WebhookAddressError

TIMEOUT_S = 10.0
_SHOWN_BYTES = 2_000
_PRIVATE_HINT = "Set webhooks_to_private_addresses = true in flyball.toml where that is meant."
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class SignedPoster:
    """Implements `Poster` over HTTP, as receivers of MLflow's webhooks know it.

    The address is looked up once for each message, checked, and then connected to: a name that means another machine
    a moment later does not lead elsewhere. Redirects and proxies are not followed.

    Args:
        clock: Tells the instant in the signature.
        allows_private: Whether addresses of this machine and of private networks may be posted to.
        timeout_s: How long connecting, and each wait for an answer, may take.
    """

    def __init__(self, clock: Clock, *, allows_private: bool = False, timeout_s: float = TIMEOUT_S) -> None:
        self._clock = clock
        self._allows_private = allows_private
        self._timeout_s = timeout_s

    def check(self, url: str) -> None:
        """See `Poster.check`."""
        self._find_address(url)

    def post(self, webhook: Webhook, message: Message) -> Answer:
        """See `Poster.post`."""
        parts = urlsplit(webhook.url)
        host = parts.hostname or ""
        try:
            address = self._find_address(webhook.url)
        except WebhookAddressError as error:
            raise BackendError(error.message, hint=error.hint) from error
        connection = _Connection(host, parts.port, address, parts.scheme == "https", self._timeout_s)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("POST", target, message.body, self._headers(webhook, message))
            response = connection.getresponse()
            body = response.read(_SHOWN_BYTES).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise BackendUnavailableError(f"the webhook at {host} gave no answer: {reason}") from error
        finally:
            connection.close()
        if response.status >= 500 or response.status in (408, 425, 429):
            raise BackendUnavailableError(f"the webhook at {host} answered {response.status}")
        return Answer(response.status, body)

    def _headers(self, webhook: Webhook, message: Message) -> dict[str, str]:
        at = str(int(self._clock.now().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "X-MLflow-Delivery-Id": message.id,
            "X-MLflow-Timestamp": at,
        }
        if webhook.secret:
            signed = b".".join((message.id.encode(), at.encode(), message.body))
            digest = hmac.new(webhook.secret.encode(), signed, hashlib.sha256).digest()
            headers["X-MLflow-Signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return headers

    def _find_address(self, url: str) -> tuple[Any, ...]:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise WebhookAddressError(url, f"its host cannot be found: {error}") from error
        if not self._allows_private:
            for entry in found:
                if not is_public(str(entry[4][0])):
                    raise WebhookAddressError(url, "it belongs to a network that is not public", hint=_PRIVATE_HINT)
        return found[0][4]


def is_public(text: str) -> bool:
    """Tell whether an address can be reached from anywhere, also where IPv6 wraps one of IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return address.is_global and not address.is_multicast


class _Connection(http.client.HTTPConnection):
    """Connects to an address that was checked, under the host's name."""

    def __init__(self, host: str, port: int | None, address: tuple[Any, ...], is_tls: bool, timeout_s: float) -> None:
        super().__init__(host, port or (443 if is_tls else 80), timeout=timeout_s)
        self._address = address
        self._is_tls = is_tls

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.create_connection(self._address[:2], self.timeout)
        if self._is_tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
