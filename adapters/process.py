"""The only place where a process begins and ends: settings, logs, the event loop, SIGTERM and SIGINT heard at once."""

import asyncio
import gc
import shutil
import signal
from collections.abc import Awaitable, Callable

import uvloop

from adapters.settings import Settings, load_settings
from adapters.telemetry import configure

Service = Callable[[Settings, asyncio.Event], Awaitable[None]]


def serve(name: str, service: Service) -> None:
    """Run a service until it ends or is asked to stop. Raises `BadSettingError` before anything has begun."""
    settings = load_settings()
    configure(name, settings)
    # What was imported lives as long as the process; and our garbage has few cycles: look for them rarely.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    uvloop.run(_until_stopped(settings, service))


def leash() -> list[str]:
    """Words before a child's command that let it end when its parent is killed, where the system has them."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


async def _until_stopped(settings: Settings, service: Service) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await service(settings, stop)
