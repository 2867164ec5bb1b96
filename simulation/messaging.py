"""The messaging provider of the simulated world: takes SMS and push, remembers all, hands drivers' pushes to the drivers."""

import argparse
import asyncio
import random
import signal
import sys
from typing import Annotated, Final, Literal

import aiohttp
import msgspec
import uvloop
from aiohttp import web

DRIVER_PREFIX: Final = "drv_"
_MOST_FORWARDS: Final = 5_000
_FORWARD_TIMEOUT_S: Final = 5.0
_REFUSALS: Final = {"500": 500, "429": 429}


class Sms(msgspec.Struct, frozen=True):
    to: str
    body: str
    idempotency_key: str


class Push(msgspec.Struct, frozen=True):
    to: str
    title: str
    body: str
    data: dict[str, msgspec.Raw] = {}


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The knobs: an outage of one kind until told otherwise, or a share of requests that fail with 500.

    `sms_key_expired`: every SMS is refused with 401, as if nobody had told us of the new key.
    """

    outage: Literal["500", "429", "timeout"] | None = None
    failure_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    hang_s: Annotated[float, msgspec.Meta(ge=0, le=3_600)] = 5.0
    sms_key_expired: bool = False


class Messaging:
    """Everything it ever took, in memory. SMS are one per idempotency key."""

    def __init__(self, seed: int, forward_url: str, session: aiohttp.ClientSession) -> None:
        self._random = random.Random(seed)
        self._forward_url, self._session = forward_url, session
        self._forwards: set[asyncio.Task[None]] = set()
        self._sms: dict[str, Sms] = {}
        self._pushes: list[Push] = []
        self._behaviour = Behaviour()
        self._counts = {"duplicates": 0, "failed": 0, "forwarded": 0, "not_forwarded": 0}

    def application(self) -> web.Application:
        app = web.Application(client_max_size=65_536)
        app.router.add_post("/v1/messages", self._take_sms)
        app.router.add_post("/v1/push", self._take_push)
        for path in ("/v1/messages", "/v1/push"):
            app.router.add_head(path, self._refuse_method)  # in an outage nothing is answered otherwise
        app.router.add_get("/_sim/messages", self._tell)
        app.router.add_get("/_sim/behaviour", self._tell_behaviour)
        app.router.add_post("/_sim/behaviour", self._behave)
        return app

    async def _take_sms(self, request: web.Request) -> web.Response:
        failed = await self._failure()
        if failed is not None:
            return failed
        if self._behaviour.sms_key_expired:
            self._counts["failed"] += 1
            return _json({"error": "this key has expired"}, 401)
        try:
            sms = msgspec.json.decode(await request.read(), type=Sms)
        except msgspec.MsgspecError as error:
            return _json({"error": str(error)}, 400)
        if sms.idempotency_key in self._sms:
            self._counts["duplicates"] += 1
        self._sms.setdefault(sms.idempotency_key, sms)
        return _json({"id": f"sms_{sms.idempotency_key}"}, 201)

    async def _take_push(self, request: web.Request) -> web.Response:
        failed = await self._failure()
        if failed is not None:
            return failed
        raw = await request.read()
        try:
            push = msgspec.json.decode(raw, type=Push)
        except msgspec.MsgspecError as error:
            return _json({"error": str(error)}, 400)
        self._pushes.append(push)
        if push.to.startswith(DRIVER_PREFIX) and self._forward_url:
            self._forward(raw)
        return _json({}, 202)

    async def _refuse_method(self, _: web.Request) -> web.Response:
        return await self._failure() or web.Response(status=405, headers={"Allow": "POST"})

    async def _tell(self, request: web.Request) -> web.Response:
        """All messages, as `{"sms": […], "push": […]}`; with `kind`, only those."""
        everything: dict[str, object] = {"sms": list(self._sms.values()), "push": self._pushes}
        kind = request.query.get("kind")
        if kind is None:
            return _json(everything, 200)
        return _json(everything[kind], 200) if kind in everything else _json({"error": "kind is sms or push"}, 400)

    async def _tell_behaviour(self, _: web.Request) -> web.Response:
        return _json({"behaviour": self._behaviour, "counts": self._counts}, 200)

    async def _behave(self, request: web.Request) -> web.Response:
        try:
            named = msgspec.json.decode(await request.read(), type=dict[str, object])
            self._behaviour = msgspec.convert({**msgspec.structs.asdict(self._behaviour), **named}, Behaviour)
        except msgspec.MsgspecError as error:
            return _json({"error": str(error)}, 400)
        return await self._tell_behaviour(request)

    async def _failure(self) -> web.Response | None:
        outage = self._behaviour.outage
        if outage is None and self._random.random() >= self._behaviour.failure_rate:
            return None
        self._counts["failed"] += 1
        if outage == "timeout":
            await asyncio.sleep(self._behaviour.hang_s)
        return _json({"error": "not now"}, _REFUSALS.get(outage or "500", 500))

    def _forward(self, raw: bytes) -> None:
        if len(self._forwards) >= _MOST_FORWARDS:
            self._counts["not_forwarded"] += 1
            return
        task = asyncio.create_task(self._hand_over(raw))
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)

    async def _hand_over(self, raw: bytes) -> None:
        headers = {"content-type": "application/json"}
        try:
            async with self._session.post(self._forward_url, data=raw, headers=headers) as answer:
                self._counts["forwarded" if answer.ok else "not_forwarded"] += 1
        except (aiohttp.ClientError, TimeoutError):
            self._counts["not_forwarded"] += 1


def _json(value: object, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


async def _main(flags: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_FORWARD_TIMEOUT_S)) as session:
        app = Messaging(flags.seed, flags.driver_push_url, session).application()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, flags.host, flags.port).start()
            sys.stdout.write(f"listening on http://{flags.host}:{runner.addresses[0][1]}\n")
            sys.stdout.flush()
            await stop.wait()
        finally:
            await runner.cleanup()


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation.messaging", description="An SMS and push provider, simulated.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=58102, help="0: one that is free; it is printed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--driver-push-url", default="", help=f"where pushes to {DRIVER_PREFIX}… are handed on")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(_main(_flags()))
