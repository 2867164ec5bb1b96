"""The only place that sends the provider's signed events: `Stripe-Signature`, a short delay, a few retries, a bounded queue."""

import asyncio
import hashlib
import hmac
import time
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec

from simulation.provider.objects import JSON

RETRY_S: Final = (1.0, 4.0, 15.0)
_MOST_PENDING: Final = 20_000
_AT_ONCE: Final = 32
_TIMEOUT_S: Final = 5.0


def sign(payload: bytes, secret: str, at: int) -> str:
    """Stripe's scheme: `t=…,v1=…`, HMAC-SHA256 over time and body. `at` in seconds since the epoch."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


class Webhooks:
    """Events to one URL, in no promised order, at most a few times; what the receiver never takes is counted as given up.

    Nothing survives a restart: receivers must be able to do without (the real provider retries for days).
    """

    def __init__(self, url: str, secret: str, delay_s: float) -> None:
        self._url, self._secret, self._delay_s = url, secret, delay_s
        self._pending: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self.counts = {"sent": 0, "given_up": 0, "dropped": 0}

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=_AT_ONCE))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def publish(self, event: JSON) -> None:
        """Queue an event. With no URL, or with too many pending, it is dropped (and counted in the second case)."""
        if not self._url:
            return
        if len(self._pending) >= _MOST_PENDING:
            self.counts["dropped"] += 1
            return
        task = asyncio.create_task(self._deliver(msgspec.json.encode(event)))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _deliver(self, payload: bytes) -> None:
        for wait_s in (self._delay_s, *RETRY_S):
            await asyncio.sleep(wait_s)
            if await self._send(payload):
                self.counts["sent"] += 1
                return
        self.counts["given_up"] += 1

    async def _send(self, payload: bytes) -> bool:
        assert self._session is not None
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": sign(payload, self._secret, int(time.time())),
        }
        async with self._slots:
            try:
                async with self._session.post(self._url, data=payload, headers=headers, allow_redirects=False) as answer:
                    return 200 <= answer.status < 300
            except (aiohttp.ClientError, TimeoutError):
                return False
