"""The only place that sends SMS and push messages to the messaging provider."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec

from adapters.settings import Settings
from orders.errors import CallAnOperator, Refuse, RetryLater
from orders.failures import FailureType

_CONNECTIONS: Final = 100
_MOST_ANSWER_BYTES: Final = 16_384


class MessagingUnavailable(RetryLater):
    """No connection, no answer in time, 5xx or 429. An SMS may have gone out: send again with the same key, not a new one."""

    slug = "messaging-unavailable"
    failure = FailureType.SERVICE_UNAVAILABLE


class RecipientRefused(Refuse):
    """The provider does not take this recipient or text. `status` is its 4xx."""

    slug = "recipient-refused"
    failure = FailureType.UNKNOWN

    def __init__(self, status: int) -> None:
        super().__init__(f"the messaging provider refused the message with {status}")
        self.status = status


class BadMessagingCredentials(CallAnOperator):
    slug = "bad-messaging-credentials"
    failure = FailureType.SERVICE_UNAVAILABLE


class _Sent(msgspec.Struct):
    id: str


class Messaging:
    """SMS once per key, as long as the provider remembers the key; push at most once. Enter it once per process.

    Each call takes at most `messaging_timeout_ms` and raises `MessagingUnavailable`, `RecipientRefused` or
    `BadMessagingCredentials`.
    """

    def __init__(self, settings: Settings) -> None:
        self._sms_url = f"{settings.sms_api_base.rstrip('/')}/v1/messages"
        self._push_url = f"{settings.push_api_base.rstrip('/')}/v1/push"
        self._timeout = aiohttp.ClientTimeout(total=settings.messaging_timeout_ms / 1_000)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=self._timeout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def send_sms(self, to: str, body: str, idempotency_key: str) -> str:
        """Hand over one SMS; the provider's id of it. The same key again is the same SMS."""
        answer = await self._post(self._sms_url, {"to": to, "body": body, "idempotency_key": idempotency_key})
        try:
            return msgspec.json.decode(answer, type=_Sent).id
        except msgspec.MsgspecError as error:
            raise MessagingUnavailable("an answer that cannot be read") from error

    async def send_push(self, to: str, title: str, body: str, data: Mapping[str, str]) -> None:
        """Hand over one push. Fire and forget: 202 says that the provider will try."""
        await self._post(self._push_url, {"to": to, "title": title, "body": body, "data": dict(data)})

    async def probe_sms(self) -> None:
        """Whether the way to SMS is open. Sends nothing; raises `MessagingUnavailable` where it is not."""
        await self._probe(self._sms_url)

    async def probe_push(self) -> None:
        """Whether the way to push messages is open. Sends nothing; raises `MessagingUnavailable` where it is not."""
        await self._probe(self._push_url)

    async def _probe(self, url: str) -> None:
        """HEAD at the address that messages go to: no provider may send anything for it, and whatever it answers (most say
        401, 404 or 405) it is there. Only what `_post` takes for an absence counts as one.
        """
        try:
            async with self._session.head(url, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise MessagingUnavailable(f"no answer: {type(error).__name__}") from error
        if _absent(status):
            raise MessagingUnavailable(f"the messaging provider answered {status}")

    async def _post(self, url: str, message: Mapping[str, object]) -> bytes:
        headers = {"content-type": "application/json"}
        try:
            async with self._session.post(
                url, data=msgspec.json.encode(message), headers=headers, allow_redirects=False
            ) as answer:
                body, status = await answer.content.read(_MOST_ANSWER_BYTES), answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise MessagingUnavailable(f"no answer: {type(error).__name__}") from error
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return body
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise BadMessagingCredentials(f"the messaging provider answered {status}")
        if _absent(status):
            raise MessagingUnavailable(f"the messaging provider answered {status}")
        raise RecipientRefused(status)


def _absent(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
