"""The gateway's composition root: settings, one pool, one application, one server."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
import uvloop

from adapters import telemetry
from adapters.postgres import DatabaseUnavailable, open_pool
from adapters.settings import BadSettingError, Settings, load_settings
from gateway.app import create_app
from gateway.context import SERVICE, Gateway
from gateway.edge import Edge
from gateway.watch import Watch
from outbox.transition import waits


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until told to stop, then finish what is under way. Raises `BadSettingError`, `DatabaseUnavailable`."""
    with _listen(settings) as listener:
        async with open_pool(settings.postgres_dsn, service=SERVICE, size=settings.database_pool_size) as pool:
            watch = Watch(pool)
            app = create_app(Gateway(settings, pool, waits(settings), watch))
            server = _Server(_config(app))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch.run(stop))
                tasks.create_task(_stop(server, stop))
                structlog.get_logger().info("gateway.ready", port=listener.getsockname()[1])
                gc.collect()
                gc.freeze()
                await server.serve(sockets=[listener])
                stop.set()


def _config(app: Edge) -> uvicorn.Config:
    return uvicorn.Config(
        app, http="httptools", loop="uvloop", lifespan="off", access_log=False, log_config=None, server_header=False,
        proxy_headers=False, timeout_keep_alive=30, timeout_graceful_shutdown=10, backlog=2048,
    )  # fmt: skip


async def _stop(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


def _listen(settings: Settings) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.http_host, settings.http_port))
    except OSError as error:
        listener.close()
        taken = f"{settings.http_host}:{settings.http_port} cannot be listened on ({error.strerror})"
        raise BadSettingError("RUSHLINE_HTTP_PORT", taken, "Stop what uses it, or set another port.") from error
    return listener


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
