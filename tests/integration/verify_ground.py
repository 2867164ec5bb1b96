"""A ledger with real orders behind it, signed as it grew, and copies of both databases that their owner tampers with."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from adapters.postgres import Connection, Pool, connect, open_pool
from adapters.settings import Settings
from audit import keys, ledger, tree
from audit.events import read_event
from audit.verification.copies import Copies, Source, from_path
from audit.verification.findings import Finding, Kind, Report
from audit.verification.verifying import Wanted, verify
from orders import chain
from orders.decide import Cause, system
from orders.names import Act, State
from outbox.deeds import Deed, looks_at, record
from streams.checkpointing import folder_of
from tests.integration.audit_ground import at_home, checkpointed
from tests.integration.streams_making import database
from tests.making import walked

ROUNDS = 3
ORDERS = 12  # in each round, side by side


def signed_ledger(stack: Settings, home: Path) -> Iterator[Settings]:
    """Orders in three rounds, each looked at once, and a checkpoint after each round."""
    for settings in database(stack):
        own = at_home(settings, home)
        asyncio.run(_live(own))
        yield own


async def _live(own: Settings) -> None:
    async with open_pool(own.postgres_dsn, service="tests", size=4) as pool:
        for _ in range(ROUNDS):
            orders = await asyncio.gather(*(walked(pool, State.DELIVERED) for _ in range(ORDERS)))
            async with pool.acquire() as conn, conn.transaction():
                cause = Cause(id=f"req_{secrets.token_hex(4)}", actor=system("tests"), service="tests")
                deeds = [Deed(act=Act.ORDER_VIEWED, chain=looks_at(o.order_id), order_id=o.order_id) for o in orders]
                await record(conn, deeds, cause, datetime.now(UTC))
            await ledgered(own)
            await checkpointed(own)


async def ledgered(own: Settings) -> None:
    """What the relay and the audit stream would do: every audit row of the outbox becomes a leaf."""
    async with connect(own.migrate_url, service="tests") as owner, connect(own.audit_url, service="tests") as writer:
        rows = await owner.fetch("DELETE FROM outbox WHERE destination = 'audit.events' RETURNING id, body")
        events = [read_event(1, row["body"]) for row in sorted(rows, key=lambda row: row["id"])]
        async with writer.transaction():
            assert await ledger.store(writer, events) == 0


@asynccontextmanager
async def copied(own: Settings) -> AsyncIterator[Settings]:
    """A copy of the database, in which the owner's triggers are off."""
    name = f"copy_{secrets.token_hex(4)}"
    template = urlsplit(own.migrate_url).path[1:]
    elsewhere = {
        each: urlsplit(getattr(own, each))._replace(path=f"/{name}").geturl()
        for each in ("postgres_dsn", "migrate_dsn", "audit_dsn", "audit_reader_dsn")
    }
    copy = msgspec.structs.replace(own, **elsewhere)
    async with connect(urlsplit(own.migrate_url)._replace(path="/postgres").geturl(), service="tests") as owner:
        await owner.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            async with connect(copy.migrate_url, service="tests") as tamper:
                for row in await tamper.fetch(
                    "SELECT DISTINCT tgrelid::regclass::text AS t FROM pg_trigger WHERE NOT tgisinternal"
                ):
                    await tamper.execute(f"ALTER TABLE {row['t']} DISABLE TRIGGER USER")
            yield copy
        finally:
            await owner.execute(f"DROP DATABASE {name}")  # not by force, which an autovacuum refuses


@asynccontextmanager
async def as_owner(settings: Settings) -> AsyncIterator[Connection]:
    async with connect(settings.migrate_url, service="tests") as owner:
        yield owner


async def verified(
    settings: Settings, *, sources: tuple[Source, ...] | None = None, orders: bool = True, wanted: Wanted | None = None
) -> Report:  # fmt: skip
    """What a verification says, with the checkpoints from the files and the orders' own heads."""
    given = (from_path(folder_of(settings)),) if sources is None else sources
    copies = Copies(keys.load(settings).verifiers, given) if given else None
    async with (
        open_pool(settings.audit_url, service="tests", size=3) as db,
        open_pool(settings.postgres_dsn, service="tests", size=2) as main,
    ):
        other: Pool | None = main if orders else None
        return await verify(db, settings.audit_url, other, copies, wanted or Wanted(settle=timedelta(0)))


def first(report: Report) -> Finding:
    """Where the record breaks first."""
    assert report.findings
    return report.findings[0]


def kinds(report: Report) -> set[Kind]:
    return {finding.kind for finding in report.findings}


async def cut(owner: Connection, end: int) -> None:
    """Leave a ledger that ends there, and is whole in itself."""
    await owner.execute("DELETE FROM audit.events WHERE leaf_index >= $1", end)
    await owner.execute("UPDATE audit.sequence SET next_leaf = $1", end)
    await grown_again(owner)


async def grown_again(owner: Connection) -> None:
    """Heads and tree made anew from the events that there are; no checkpoint is left in the ledger."""
    await owner.execute("TRUNCATE audit.heads, audit.checkpoints, audit.tiles")
    await owner.execute(
        """INSERT INTO audit.heads (chain, position, hash) SELECT DISTINCT ON (chain) chain, position,
           decode(convert_from(body, 'UTF8')::jsonb ->> 'hash', 'hex') FROM audit.events ORDER BY chain, position DESC"""
    )
    await owner.execute("UPDATE audit.tree SET size = 0, root = sha256('')")
    while await tree.step(owner):
        pass


async def rewrite(owner: Connection, of_chain: str, position: int, **fields: Any) -> None:
    """Change an event, and seal it and all that follow in its chain again."""
    rows = await owner.fetch("SELECT leaf_index, body FROM audit.events WHERE chain = $1 ORDER BY position", of_chain)
    head = chain.GENESIS
    for row in rows:
        event = msgspec.json.decode(row["body"])
        if event["position"] == position:
            event |= fields
        head, body = chain.seal({name: value for name, value in event.items() if name not in {"hash", "prev_hash"}}, head)
        await owner.execute("UPDATE audit.events SET body = $2 WHERE leaf_index = $1", row["leaf_index"], body)
