"""The composition root of the streams: `python -m streams [GROUP…]`, all five where none is named."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from adapters.kafka_consumer import Consumer
from adapters.process import serve
from adapters.settings import Settings
from orders.errors import Invalid
from streams.analytics import Analytics
from streams.audit import Audit
from streams.checkpointing import Checkpointing
from streams.consumer import Stream
from streams.courier import Courier
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
    """Be a member of each of these groups, or of all, until stopped. Raises `Invalid`, `TopicsMissing`."""
    wanted = [group(noun, settings) for noun in dict.fromkeys(groups or GROUPS)]
    alone = asyncio.Lock()
    try:
        async with asyncio.TaskGroup() as tasks:
            for each in wanted:
                tasks.create_task(_follow(settings, each, alone, stop))
                tasks.create_task(Courier(each, settings).run(stop))
            if any(each.noun == Audit.noun for each in wanted):
                tasks.create_task(Checkpointing(settings).run(stop))
                if settings.archive_url:
                    tasks.create_task(_archive(settings, stop))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _archive(settings: Settings, stop: asyncio.Event) -> None:
    from streams import archiving  # noqa: PLC0415  # pyarrow: memory and time of a start that nobody without an archive owes

    await archiving.run(settings, stop)


async def _follow(settings: Settings, group: Group, alone: asyncio.Lock, stop: asyncio.Event) -> None:
    linger_ms = max(settings.stream_linger_ms, group.linger_ms)
    dsn = settings.audit_url if group.schema == "audit" else settings.postgres_dsn
    async with Consumer(settings.kafka_bootstrap, group.name, [group.topic], linger_ms=linger_ms) as consumer:
        stream = Stream(
            group, consumer, dsn, batch_rows=settings.stream_batch_rows, time_scale=settings.time_scale, alone=alone
        )
        await stream.run(stop)


if __name__ == "__main__":
    serve("stream", lambda settings, stop: run(settings, sys.argv[1:], stop))
