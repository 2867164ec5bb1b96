"""The gateway's composition root: settings, one pool, one application, one server."""

import asyncio
import signal
import sys

import uvloop

from adapters import telemetry
from adapters.postgres import DatabaseUnavailable, open_pool
from adapters.settings import BadSettingError, Settings, load_settings
from gateway.app import create_app
from gateway.context import SERVICE, Gateway
from gateway.server import Server, listen
from gateway.watch import Watch
from outbox.transition import waits


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until told to stop, then finish what is under way. Raises `BadSettingError`, `DatabaseUnavailable`."""
    with listen(settings) as listener:
        async with open_pool(settings.postgres_dsn, service=SERVICE, size=settings.database_pool_size) as pool:
            watch = Watch(pool)
            server = Server(create_app(Gateway(settings, pool, waits(settings), watch)))
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watch.run(stop))
                await server.serve_until(stop, listener)
                watching.cancel()


async def main() -> None:
    settings = load_settings()
    telemetry.configure(SERVICE, settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(settings, stop)


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except (BadSettingError, DatabaseUnavailable) as refusal:
        sys.exit(str(refusal))
