"""A stream with a bug as a process of its own, for tests that kill it: KIND TOPIC NAME BUG courier|alone SETTINGS."""

import asyncio
import sys
from pathlib import Path

import msgspec

from adapters.settings import Settings
from streams.courier import Courier
from tests.integration.held_ground import (
    Bug,
    Buggy,
    BuggyAnalytics,
    BuggyAudit,
    BuggySupport,
    DeadlySupport,
    DeadlyToRead,
    buggy,
)
from tests.integration.streams_making import member

_KINDS: dict[str, type[Buggy]] = {
    "analytics": BuggyAnalytics, "support": BuggySupport, "audit": BuggyAudit, "deadly": DeadlySupport,
    "deadly-to-read": DeadlyToRead,
}  # fmt: skip


async def main(kind: str, topic: str, name: str, bug: str, courier: str, given: str) -> None:
    settings, stop = msgspec.json.decode(given, type=Settings), asyncio.Event()
    group = buggy(_KINDS[kind], topic, name, Bug(Path(bug)))
    stream, consumer = member(settings, group, batch_rows=20)
    async with consumer, asyncio.TaskGroup() as tasks:
        tasks.create_task(stream.run(stop))
        if courier == "courier":
            tasks.create_task(Courier(group, settings).run(stop))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
