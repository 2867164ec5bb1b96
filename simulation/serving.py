"""The only place where a process of the outside world begins and ends: listening, signals, work in the background."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, Generic, TypeVar

import msgspec
from aiohttp import web

_MOST_BODY_BYTES: Final = 262_144
_ENCODER: Final = msgspec.json.Encoder()
Behaviour = TypeVar("Behaviour", bound=msgspec.Struct)


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """The application at this address, announced on standard output; the port in use, where 0 was asked for."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, keepalive_timeout=75)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1_024, reuse_address=True).start()
        taken = int(runner.addresses[0][1])
        sys.stdout.write(f"listening on http://{host}:{taken}\n")
        sys.stdout.flush()
        yield taken
    finally:
        await runner.cleanup()


def application() -> web.Application:
    return web.Application(client_max_size=_MOST_BODY_BYTES)


def told(value: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=_ENCODER.encode(value), status=status, content_type="application/json")


class Changeable(Generic[Behaviour]):
    """Knobs that can be turned while the process runs: `GET` and `POST /_sim/behaviour`."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._kind = type(behaviour)
        self.now = behaviour

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/_sim/behaviour", self._tell)
        app.router.add_post("/_sim/behaviour", self._change)

    async def _tell(self, _: web.Request) -> web.Response:
        return told(self.now)

    async def _change(self, request: web.Request) -> web.Response:
        try:
            named = msgspec.json.decode(await request.read(), type=dict[str, object])
            self.now = msgspec.convert({**msgspec.structs.asdict(self.now), **named}, self._kind)
        except msgspec.MsgspecError as error:
            return told({"error": str(error)}, 400)
        return told(self.now)


class Errands:
    """Tasks that go on by themselves; all are ended with the process, and what fails is told on standard error."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def idle(self) -> None:
        """Wait until there are none."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed += 1
            sys.stderr.write(f"an errand failed: {error!r}\n")


def fate(*name: str | int) -> Random:
    """The dice for one decision. The same seed, person and count: the same throw, whatever happens elsewhere."""
    return Random("/".join(map(str, name)))


def now() -> str:
    """UTC in ISO 8601, as records have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def cpu_s() -> float:
    """Seconds of CPU that this process has used."""
    return round(time.process_time(), 3)
