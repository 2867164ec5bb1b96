"""A messaging provider for the tests, or one each for SMS and pushes: the simulated one, served in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from simulation.messaging import Messaging


class MessagingWorld:
    """Its address, its knobs and its records."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base, self._session = base, session

    async def behave(self, **knobs: object) -> None:
        async with self._session.post(f"{self.base}/_sim/behaviour", json=knobs) as answer:
            assert answer.status == 200, await answer.text()

    async def taken(self, kind: str) -> list[dict[str, Any]]:
        async with self._session.get(f"{self.base}/_sim/messages", params={"kind": kind}) as answer:
            found: list[dict[str, Any]] = await answer.json()
            return found


@asynccontextmanager
async def messaging() -> AsyncIterator[MessagingWorld]:
    async with aiohttp.ClientSession() as session:
        runner = web.AppRunner(Messaging(7, "", session).application(), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield MessagingWorld(f"http://127.0.0.1:{runner.addresses[0][1]}", session)
        finally:
            await runner.cleanup()
