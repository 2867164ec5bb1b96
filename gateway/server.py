"""The only place for the HTTP server: its socket, its settings, and how it is stopped."""

import asyncio
import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import uvicorn

from adapters.settings import BadSettingError, Settings
from gateway.edge import Edge

_BACKLOG = 2048


def listen(settings: Settings) -> socket.socket:
    """The gateway's socket. Raises `BadSettingError` where the address is taken or is none of this machine's."""
    host, port = settings.http_host, settings.http_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        problem = f"{host}:{port} cannot be listened on ({error.strerror or error})"
        raise BadSettingError("RUSHLINE_HTTP_PORT", problem, "Stop what uses it, or set another port.") from error


class Server(uvicorn.Server):
    """uvicorn with uvloop and httptools that leaves signals to its process, and says when it is ready."""

    def __init__(self, app: Edge) -> None:
        super().__init__(
            uvicorn.Config(
                app, http="httptools", loop="uvloop", lifespan="off", access_log=False, log_config=None, server_header=False,
                proxy_headers=False, timeout_keep_alive=30, timeout_graceful_shutdown=10, backlog=_BACKLOG,
            )
        )  # fmt: skip

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what was made so far stays: no collection need look at it again
        ports = [each.getsockname()[1] for each in sockets or ()]
        structlog.get_logger().info("gateway.ready", ports=ports)

    async def serve_until(self, stop: asyncio.Event, listener: socket.socket) -> None:
        """Serve; once told to stop, take no more, finish what is under way, and end within ten seconds."""
        serving = asyncio.create_task(self.serve(sockets=[listener]))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self.should_exit = True
        await serving
