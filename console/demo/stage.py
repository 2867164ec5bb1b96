"""The only place that sets the demonstration up and clears it away: servers, our services, the outside world."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from adapters.postgres import Connection, connect
from adapters.settings import PREFIX, Settings, load_settings
from console.demo import sql
from console.demo.entries import noted
from console.demo.gathering import Before, look_before
from console.stack import prepare
from console.supervisor import Part, Supervisor, plan
from orders.errors import Refuse
from simulation.world import Place, Ports, World
from stack import anywhere
from stack.place import SERVERS
from stack.ports import Ports as StackPorts

PROCESSES = 6  # fewer than by default: on two cores, a process of its own for everything costs more than it gives


class AlreadyRunning(Refuse):
    """Services of ours run on this stack: their clocks and the demonstration's would not agree."""

    slug = "already-running"

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"Rushline is at work on this stack already: {', '.join(names)}.")
        self.remedy = "Stop `rushline run` first, then start the demonstration again."


class Stage(msgspec.Struct, kw_only=True):
    """All that is needed while it plays."""

    settings: Settings
    world: World
    services: Supervisor
    db: Connection
    before: Before

    def pids(self) -> dict[str, int]:
        """Every process of ours and of the outside world, by name."""
        servers = {
            f"server-{name}": server.pid
            for name, server in anywhere.status(Path(self.settings.home)).items()
            if server.pid is not None
        }
        parts = {**self.services.processes, **{f"sim-{name}": process for name, process in self.world.processes.items()}}
        return {**servers, **{name: process.pid for name, process in parts.items()}}


@asynccontextmanager
async def set_up(
    home: Path, *, seed: int, cities: int, time_scale: float, free_ports: bool, keep: bool, workers: int = 1
) -> AsyncIterator[Stage]:
    """Servers up and ready, services and world at work. At the end all is stopped that was not running before.

    Raises `AlreadyRunning`, and whatever keeps the servers or the world from starting.
    """
    var_dir = home / "var" / "demo"
    ran = await _running_servers(home)
    started = await asyncio.to_thread(anywhere.up, home, StackPorts.free() if free_ports else None)
    try:
        settings, environ = _settings(home, started.settings, time_scale)
        await prepare(settings)
        async with AsyncExitStack() as stack:
            db = await stack.enter_async_context(connect(settings.migrate_url, service="demo"))
            running = [row["application_name"] for row in await db.fetch(sql.RUNNING)]
            if running:
                raise AlreadyRunning(running)
            await stack.enter_async_context(noted(db))
            before = await look_before(db, settings)
            (var_dir / "sim-ledger.jsonl").unlink(missing_ok=True)  # the provider would go on from the last evening's
            place = Place(seed=seed, cities=cities, time_scale=time_scale)
            world = await World.start(settings, place=place, ports=Ports.free(), var_dir=var_dir)
            await stack.enter_async_context(world)
            services = Supervisor(_parts(workers), {**environ, **world.environment}, var_dir / "log")
            await stack.enter_async_context(_running(services))
            await _listening(settings.http_port)
            yield Stage(settings=settings, world=world, services=services, db=db, before=before)
    finally:
        ours = [name for name in SERVERS if name not in ran]
        if ours and not keep:
            await asyncio.to_thread(anywhere.down, home, only=ours)


async def _running_servers(home: Path) -> set[str]:
    statuses = await asyncio.to_thread(anywhere.status, home)
    return {name for name, server in statuses.items() if server.running}


def _parts(workers: int) -> list[Part]:
    """Two relays, so that one can die; so many workers of each kind; everything else once."""
    return plan(PROCESSES, {"relay": 2, "worker": workers})


def _settings(home: Path, local: dict[str, str], time_scale: float) -> tuple[Settings, dict[str, str]]:
    port = _free_or(8080)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
        **local,
        f"{PREFIX}HOME": str(home),
        f"{PREFIX}TIME_SCALE": str(time_scale),
        f"{PREFIX}HTTP_PORT": str(port),
    }
    return load_settings(environ, local=Path(os.devnull)), environ


def _free_or(port: int) -> int:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@asynccontextmanager
async def _running(services: Supervisor) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(services.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def _listening(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
