"""The only place where the simulated people call the gateway: tokens, one shared session, patience with what comes back."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import jwt
import msgspec

from adapters.settings import Settings

_TOKEN_S: Final = 86_400
_FRESH_S: Final = 43_200
_MOST_TOKENS: Final = 50_000
_CONNECTIONS: Final = 256
_TIMEOUT_S: Final = 10.0
_CONNECT_S: Final = 3.0
_FIRST_PAUSE_S: Final = 0.25
_LAST_PAUSE_S: Final = 4.0
NO_ANSWER: Final = 0
UNCERTAIN: Final = (aiohttp.ClientError, TimeoutError, OSError)


class Answer(msgspec.Struct, frozen=True):
    """`status` 0: there was none, and nobody knows whether it was done."""

    status: int
    body: bytes = b""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether to ask again: no answer, not now, or too fast."""
        return self.status == NO_ANSWER or self.status >= 500 or self.status in (408, 425, 429)

    def json(self) -> dict[str, Any]:
        """The body, where it is a JSON object; else nothing."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except msgspec.MsgspecError:
            return {}


class Caller(msgspec.Struct, frozen=True):
    """On whose behalf: the `sub` and the `role` of the token."""

    subject: str
    role: str


class Gateway:
    """Rushline as the outside world sees it."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, secret: str) -> None:
        self._session, self._base_url, self._secret = session, base_url, secret
        self._tokens: dict[str, tuple[float, str]] = {}

    def authorization(self, caller: Caller) -> str:
        """The caller's `Authorization` header; signing is dear, so it is kept."""
        now = time.time()
        kept = self._tokens.get(caller.subject)
        if kept is not None and now - kept[0] < _FRESH_S:
            return kept[1]
        if len(self._tokens) >= _MOST_TOKENS:
            self._tokens.clear()
        claims = {"sub": caller.subject, "role": caller.role, "iat": int(now), "exp": int(now) + _TOKEN_S}
        header = f"Bearer {jwt.encode(claims, self._secret, algorithm='HS256')}"
        self._tokens[caller.subject] = (now, header)
        return header

    async def call(
        self, method: str, path: str, caller: Caller, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, one answer; status 0 where none came."""
        sent = {"authorization": self.authorization(caller), **(headers or {})}
        data = None
        if body is not None:
            sent["content-type"] = "application/json"
            data = msgspec.json.encode(body)
        try:
            async with self._session.request(method, self._base_url + path, data=data, headers=sent) as answer:
                return Answer(answer.status, await answer.read())
        except UNCERTAIN:
            return Answer(NO_ANSWER)

    async def insist(
        self, method: str, path: str, caller: Caller, body: object = None, *, patience_s: float = 60.0, conflicts: int = 0
    ) -> Answer:
        """Ask until there is an answer that stands, or patience ends. `conflicts`: how many 409 to take for "not yet"."""
        ends, pause = time.monotonic() + patience_s, _FIRST_PAUSE_S
        while True:
            answer = await self.call(method, path, caller, body)
            not_yet = answer.status == 409 and conflicts > 0
            if not (answer.passing or not_yet) or time.monotonic() + pause > ends:
                return answer
            conflicts -= not_yet
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_S)

    def stream(self, path: str, caller: Caller, last_event_id: str) -> "aiohttp.client._RequestContextManager":
        """An open event stream, for as long as it lasts."""
        headers = {"authorization": self.authorization(caller), "accept": "text/event-stream"}
        if last_event_id:
            headers["last-event-id"] = last_event_id
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=120.0)
        return self._session.get(self._base_url + path, headers=headers, timeout=timeout)


@asynccontextmanager
async def open_gateway(settings: Settings, connections: int = _CONNECTIONS) -> AsyncIterator[Gateway]:
    """A session with the gateway that `settings` name."""
    connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=60.0)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S, sock_connect=_CONNECT_S)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    ) as session:
        yield Gateway(session, settings.base_url, settings.jwt_secret)
