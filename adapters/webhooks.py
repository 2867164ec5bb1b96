"""The only place that sends webhooks to restaurants: signed by Standard Webhooks, one attempt, a typed outcome.

The URL is the restaurant's own, so it can point anywhere, our own network included (SSRF). Redirects are never followed,
of the answer at most 4 KiB are read and none of it is passed on; where processes run beside things that trust their
network, let them out only through an egress proxy that refuses private addresses.
"""

import base64
import binascii
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec
from standardwebhooks import Webhook
from yarl import URL

from adapters.settings import Settings
from orders.errors import CallAnOperator, Refuse, RetryLater
from orders.failures import FailureType

_CONNECTIONS: Final = 200
_CONNECTIONS_PER_HOST: Final = 16
_MOST_ANSWER_BYTES: Final = 4_096
_LEAST_SECRET_BYTES: Final = 16
_LATER: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


class WebhookAnswer(msgspec.Struct, frozen=True):
    """The peer took it: `status` is 2xx."""

    status: int


class PeerUnavailable(RetryLater):
    """No connection, no answer in time, 5xx, 408, 425 or 429. The peer may have got the message: it must know `webhook-id` again.

    `host` is whose breaker this concerns; `status` is None where there was no answer, `timed_out` where that took all the time.
    """

    slug = "peer-unavailable"
    failure = FailureType.RESTAURANT_TIMEOUT

    def __init__(self, host: str, status: int | None, cause: str, *, timed_out: bool = False) -> None:
        super().__init__(f"{host} is unavailable: {cause}")
        self.host, self.status, self.timed_out = host, status, timed_out


class PeerRefused(Refuse):
    """The peer answered 3xx or 4xx (other than 408, 425 and 429): the same message will not be taken later either."""

    slug = "peer-refused"
    failure = FailureType.RESTAURANT_TIMEOUT

    def __init__(self, host: str, status: int) -> None:
        super().__init__(f"{host} refused the message with {status}")
        self.host, self.status = host, status


class BadPeerAddress(CallAnOperator):
    """The stored URL or secret cannot be used."""

    slug = "bad-peer-address"
    failure = FailureType.RESTAURANT_TIMEOUT


class Webhooks:
    """Sends at most once per call, at least once with the caller's retries. Enter it once per process."""

    def __init__(self, settings: Settings) -> None:
        self._timeout = aiohttp.ClientTimeout(total=settings.webhook_timeout_ms / 1_000)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS, limit_per_host=_CONNECTIONS_PER_HOST)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            )
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def send(self, url: str, secret: str, message_id: str, body: bytes, at: datetime) -> WebhookAnswer:
        """POST `body` (JSON in UTF-8), signed as of `at`, within `webhook_timeout_ms`.

        Raises `PeerUnavailable`, `PeerRefused`, and `BadPeerAddress` where the URL or the secret cannot be used.
        """
        headers = {"content-type": "application/json", **signed_headers(secret, message_id, body, at)}
        target = web_address(url)
        host = target.host or ""
        try:
            async with self._session.post(target, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.content.read(_MOST_ANSWER_BYTES)
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            timed_out = isinstance(error, TimeoutError)
            raise PeerUnavailable(host, None, type(error).__name__, timed_out=timed_out) from error
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return WebhookAnswer(status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            raise PeerUnavailable(host, status, f"it answered {status}")
        raise PeerRefused(host, status)


def web_address(url: str) -> URL:
    """The URL, where it is one that can be posted to. Raises `BadPeerAddress`."""
    try:
        target = URL(url)
    except (ValueError, TypeError) as error:
        raise BadPeerAddress("the webhook URL cannot be read") from error
    if target.scheme not in ("http", "https") or not target.host or target.user or target.password:
        raise BadPeerAddress("the webhook URL must be http or https, with a host and without credentials")
    return target


def signed_headers(secret: str, message_id: str, body: bytes, at: datetime) -> dict[str, str]:
    """The three headers of Standard Webhooks. `secret` is `whsec_` and base64. Raises `BadPeerAddress` for an unusable one."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_") + "==", validate=False)
        text = body.decode()
    except (binascii.Error, ValueError) as error:
        raise BadPeerAddress("the webhook secret is not base64, or the body not UTF-8") from error
    if len(key) < _LEAST_SECRET_BYTES:
        raise BadPeerAddress(f"the webhook secret is shorter than {_LEAST_SECRET_BYTES} bytes")
    utc = at.astimezone(UTC)  # the package takes any clock reading for UTC
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(utc.timestamp())),
        "webhook-signature": Webhook(key).sign(message_id, utc, text),
    }
