"""The composition root of the streams: `python -m streams [GROUP…]`, all five where none is named."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import uvloop

from adapters import telemetry
from adapters.kafka_consumer import Consumer
from adapters.settings import Settings, load_settings
from orders.errors import Invalid
from streams.analytics import Analytics
from streams.audit import Audit
from streams.consumer import Stream
from streams.fraud import Fraud
from streams.group import Group
from streams.notifications import Notifications
from streams.support import Support

GROUPS: Final = ("fraud", "analytics", "notifications", "support", "audit")


def group(noun: str, settings: Settings) -> Group:
    """The group of that name. Raises `Invalid`."""
    match noun:
        case "fraud":
            return Fraud(time_scale=settings.time_scale)
        case "analytics":
            return Analytics()
        case "notifications":
            return Notifications()
        case "support":
            return Support()
        case "audit":
            return Audit()
        case _:
            raise Invalid("group", f"there is no group {noun!r}; there are {', '.join(GROUPS)}")


async def run(settings: Settings, groups: Sequence[str], stop: asyncio.Event) -> None:
    """Be a member of each of these groups, until stopped. Raises `Invalid`, `TopicsMissing`."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for each in [group(noun, settings) for noun in dict.fromkeys(groups or GROUPS)]:
            linger_ms = max(settings.stream_linger_ms, each.linger_ms)
            consumer = Consumer(settings.kafka_bootstrap, each.name, [each.topic], linger_ms=linger_ms)
            await stack.enter_async_context(consumer)
            dsn = settings.audit_url if each.schema == "audit" else settings.postgres_dsn
            tasks.create_task(Stream(each, consumer, dsn, batch_rows=settings.stream_batch_rows).run(stop))


async def _main() -> None:
    settings, stop = load_settings(), asyncio.Event()
    telemetry.configure("stream", settings)
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await run(settings, sys.argv[1:], stop)


if __name__ == "__main__":
    uvloop.run(_main())
