"""The gateway's composition root: settings, one pool, one application, one server."""

import asyncio
import signal
import sys
from typing import Final

import uvloop

from adapters import telemetry
from adapters.postgres import DatabaseUnavailable, open_pool
from adapters.settings import BadSettingError, Settings, load_settings
from gateway import sql
from gateway.app import create_app
from gateway.archived import archived
from gateway.context import SERVICE, Gateway
from gateway.server import Server, listen
from gateway.watch import Watch
from outbox.sql import APPLY, ENQUEUE, LOAD, PLACE
from outbox.transition import waits

# What the first customers of a rush would otherwise wait for.
LEDGER_CONNECTIONS: Final = 4  # support reads it, and nobody else
WARM: Final = (LOAD, APPLY, PLACE, ENQUEUE, sql.BEGIN_PLACING, sql.GRANTED, sql.DRIVER, sql.PUT_LOCATION, sql.ORDER_OF_INTENT)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until told to stop, then finish what is under way. Raises `BadSettingError`, `DatabaseUnavailable`."""
    with listen(settings) as listener:
        async with (
            open_pool(settings.postgres_dsn, service=SERVICE, size=settings.database_pool_size, ready=True, warm=WARM) as pool,
            open_pool(settings.audit_reader_url, service=SERVICE, size=LEDGER_CONNECTIONS, lazy=True) as ledger,
        ):
            watch = Watch(pool)
            server = Server(
                create_app(Gateway(settings, pool, waits(settings), watch, ledger=ledger, archive=archived(settings, ledger)))
            )
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
