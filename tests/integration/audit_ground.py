"""What tests of the audit log stand on: a ledger of their own, filled directly, and its loop."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from adapters.postgres import Connection, connect
from adapters.settings import Settings
from audit import ledger
from audit.events import read_event
from bench.audit_making import delivered_order
from streams.checkpointing import Checkpointing
from tests.making import NOW


def at_home(settings: Settings, home: Path) -> Settings:
    """The same servers, with keys and checkpoints in a folder of the test's own."""
    return msgspec.structs.replace(settings, home=str(home))


async def stored(settings: Settings, orders: int = 1) -> list[list[bytes]]:
    """So many delivered orders, stored as the stream stores them; the bodies of each."""
    made = [delivered_order(NOW) for _ in range(orders)]
    await store(settings, [body for bodies in made for body in bodies])
    return made


async def store(settings: Settings, bodies: Sequence[bytes]) -> None:
    async with connect(settings.audit_url, service="tests") as writer, writer.transaction():
        assert await ledger.store(writer, [read_event(1, body) for body in bodies]) == 0


@asynccontextmanager
async def own_and_main(settings: Settings) -> AsyncIterator[tuple[Connection, Connection]]:
    async with connect(settings.audit_url, service="tests") as own, connect(settings.postgres_dsn, service="tests") as main:
        yield own, main


async def checkpointed(settings: Settings) -> int:
    """Everything that is stored is in the tree, signed and published; the size of the checkpoint."""
    async with own_and_main(settings) as (own, main):
        return await Checkpointing(settings).step(own, main)
