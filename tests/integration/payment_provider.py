"""The payment provider as a process, for the tests that run the real SDK against it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from adapters.payments import (
    OutcomeUnknown,
    Payments,
    ProviderUnavailable,
)
from adapters.settings import Settings
from adapters.stripe import StripePayments

KEY = "sk_test_contract"
SECRET = "whsec_contract"
CALM = {
    "latency_median_ms": 0, "lost_answer_rate": 0, "error_before_rate": 0, "error_after_rate": 0, "rate_limit_rate": 0,
    "hang_s": 0, "outage": None, "key_ttl_s": 86_400,
}  # fmt: skip


class ProviderProcess:
    """The provider as a process of its own; `restart` kills it first, without a warning."""

    def __init__(self, ledger: Path, *flags: str) -> None:
        self._ledger, self._flags, self._port = ledger, flags, "0"
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "simulation.provider", "--port", self._port, "--key", KEY, "--seed", "7"]
        command += ["--ledger", str(self._ledger), "--latency-median-ms", "0", *self._flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.base = self._process.stdout.readline().removeprefix("listening on ").strip()
        assert self.base.startswith("http://"), "the provider did not start"
        self._port = self.base.rpartition(":")[2]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def restart(self) -> None:
        self.kill()
        self._start()


class World:
    """The adapter under test beside the provider's own controls and records."""

    def __init__(self, payments: StripePayments, base: str, session: aiohttp.ClientSession) -> None:
        self.payments: Payments = payments
        self.adapter = payments
        self._base, self._session = base, session

    async def behave(self, **knobs: object) -> None:
        async with self._session.post(f"{self._base}/_sim/behaviour", json=knobs) as answer:
            assert answer.status == 200, await answer.text()

    async def rows(self, order_id: str) -> list[dict[str, Any]]:
        async with self._session.get(f"{self._base}/_sim/ledger") as answer:
            return [row for row in (await answer.json())["intents"] if row["order_id"] == order_id]

    async def captured_minor(self, order_id: str) -> int:
        return sum(row["captured_minor"] for row in await self.rows(order_id))

    async def refunded_minor(self, order_id: str) -> int:
        return sum(row["refunded_minor"] for row in await self.rows(order_id))

    async def paid(self, order_id: str, amount: int = 2_500) -> str:
        intent = await self.payments.create(order_id, amount, "EUR", "pm_card_visa")
        return (await self.payments.confirm(intent.id, order_id, 1, "pm_card_visa")).id


@asynccontextmanager
async def visit(provider: ProviderProcess) -> AsyncIterator[World]:
    """The adapter at this provider, which behaves calmly before and after."""
    settings = Settings(stripe_api_base=provider.base, stripe_api_key=KEY, stripe_timeout_ms=500)
    async with StripePayments(settings) as payments, aiohttp.ClientSession() as session:
        world = World(payments, provider.base, session)
        await world.behave(**CALM)
        yield world
        await world.behave(**CALM)


async def refused(payments: Payments, order_id: str) -> bool:
    """Whether no connection is made. (A request on a kept connection may still be cut off: then its outcome is unknown.)"""
    try:
        await payments.create(order_id, 2_500, "EUR", "pm_card_visa")
    except ProviderUnavailable:
        return True
    except OutcomeUnknown:
        return False
    return False


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await check():  # noqa: ASYNC110  # what is awaited is in another process
            await asyncio.sleep(0.02)
