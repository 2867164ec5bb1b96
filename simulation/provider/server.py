"""The only place where the provider meets HTTP: Stripe's routes, the control endpoints under `/_sim/`, connections that drop."""

import asyncio
import itertools
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import msgspec
from aiohttp import web

from simulation.provider.faults import Behaviour
from simulation.provider.service import Call, Dropped, Provider

_MOST_BODY_BYTES: Final = 65_536
_SYNC_S: Final = 1.0
_REFUSAL_S: Final = 10.0


class Server:
    """Listens while it is entered. An outage of kind `refuse` really closes the port (the control port stays open)."""

    def __init__(self, provider: Provider, host: str, port: int, control_port: int | None = None) -> None:
        self._provider, self._host, self._port, self._control_port = provider, host, port, control_port
        self._numbers = itertools.count(1)
        self._stack = AsyncExitStack()
        self._site: web.TCPSite | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=0.2, keepalive_timeout=75)

    @property
    def port(self) -> int:
        """The port in use; where 0 was asked for, the one that the system gave."""
        return self._port

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        self._stack.push_async_callback(self._runner.cleanup)
        await self._open()
        if self._control_port is not None:
            await web.TCPSite(self._runner, self._host, self._control_port).start()
        syncing = asyncio.create_task(self._sync())
        self._stack.push_async_callback(_cancelled, syncing)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reopening is not None:
            await _cancelled(self._reopening)
        await self._stack.aclose()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=_MOST_BODY_BYTES)
        app.router.add_get("/_sim/ledger", self._ledger)
        app.router.add_get("/_sim/behaviour", self._tell_behaviour)
        app.router.add_post("/_sim/behaviour", self._set_behaviour)
        app.router.add_route("*", "/v1/{rest:.*}", self._api)
        return app

    async def _api(self, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "POST"):
            return web.Response(status=405)
        posted = request.method == "POST"
        call = Call(
            "POST" if posted else "GET",
            request.path,
            (await request.read()).decode("utf-8", "replace") if posted else request.query_string,
            request.headers.get("Idempotency-Key") if posted else None,
            request.headers.get("Authorization", ""),
        )
        try:
            answer = await self._provider.handle(call)
        except Dropped as dropped:
            return await _drop(request, dropped.hang_s)
        headers = {"Request-Id": f"req_{next(self._numbers):012d}"}
        if call.key:
            headers["Idempotency-Key"] = call.key
        if answer.replayed:
            headers["Idempotent-Replayed"] = "true"
        return web.Response(body=answer.body, status=answer.status, headers=headers, content_type="application/json")

    async def _ledger(self, request: web.Request) -> web.Response:
        ledger = self._provider.ledger
        if request.query.get("format") == "lines":
            return web.Response(body=msgspec.json.Encoder().encode_lines(ledger.rows()), content_type="application/x-ndjson")
        whole = {"totals": ledger.totals(), "intents": ledger.rows(), "faults": ledger.faults}
        return web.Response(body=msgspec.json.encode(whole), content_type="application/json")

    async def _tell_behaviour(self, _: web.Request) -> web.Response:
        provider = self._provider
        told = {
            "behaviour": provider.faults.behaviour,
            "outage_now": provider.outage_now(),
            "key_ttl_s": provider.keys.ttl_s,
            "injected": dict(provider.faults.injected),
            "webhooks": provider.webhooks.counts,
        }
        return web.Response(body=msgspec.json.encode(told), content_type="application/json")

    async def _set_behaviour(self, request: web.Request) -> web.Response:
        try:
            named = msgspec.json.decode(await request.read(), type=dict[str, object])
            self._provider.change({"until_s": None, **named} if "outage" in named else named)
        except msgspec.MsgspecError as error:
            return web.Response(status=400, body=msgspec.json.encode({"error": str(error)}), content_type="application/json")
        if "outage" in named:
            await self._listen_or_refuse(self._provider.faults.behaviour, request.protocol)
        return await self._tell_behaviour(request)

    async def _listen_or_refuse(self, behaviour: Behaviour, asking: web.RequestHandler) -> None:
        """Close the port for the length of an outage, at most 10 s where no control port could end it; else open it."""
        if self._reopening is not None:
            await _cancelled(self._reopening)
            self._reopening = None
        if behaviour.outage == "refuse":
            await self._close(asking)
            seconds = behaviour.until_s
            if seconds is None and self._control_port is None:
                seconds = _REFUSAL_S
            self._reopening = None if seconds is None else asyncio.create_task(self._open_after(seconds))
        elif self._site is None:
            await self._open()

    async def _close(self, asking: web.RequestHandler) -> None:
        """Stop listening and cut every connection but the one that asked for it."""
        site, self._site = self._site, None
        if site is not None:
            await site.stop()
        for connection in self._runner.server.connections if self._runner.server else []:
            if connection is not asking:
                connection.force_close()

    async def _open_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._provider.change({"outage": None, "until_s": None})
        await self._open()

    async def _open(self) -> None:
        self._site = web.TCPSite(self._runner, self._host, self._port, reuse_address=True, backlog=1_024)
        await self._site.start()
        if self._port == 0:
            self._port = int(self._runner.addresses[0][1])

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_S)
            await asyncio.to_thread(self._provider.ledger.sync)


async def _drop(request: web.Request, hang_s: float) -> web.Response:
    await asyncio.sleep(hang_s)
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
