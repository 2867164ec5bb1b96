"""What the streams' tests are made of: a database and topics of their own, facts as orders make them, running groups."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiokafka.admin import NewTopic

from adapters.kafka import open_producer
from adapters.kafka_consumer import Consumer
from adapters.postgres import connect
from adapters.settings import Settings
from adapters.topology_kafka import admin
from orders.decide import Change, Wish, decide
from orders.envelope import KAFKA_PREFIX, Broker, OutboxRow, attributes
from orders.lifecycle import Action
from orders.names import State
from orders.order import Order
from outbox.migrations import migrate
from streams.consumer import Stream
from streams.courier import Courier
from streams.group import Group
from streams.sql import in_schema
from tests.making import NOW, WAY_TO, cause_of, change_of, unplaced, wait


def database(settings: Settings) -> Iterator[Settings]:
    """The same servers with a new, migrated database, for as long as the fixture that yields from this lives."""
    name = f"streams_{secrets.token_hex(4)}"
    names = ("postgres_dsn", "migrate_dsn", "audit_dsn", "audit_reader_dsn")
    dsns = {each: urlsplit(getattr(settings, each))._replace(path=f"/{name}").geturl() for each in names}
    own = msgspec.structs.replace(settings, **dsns)
    asyncio.run(_as_owner(settings, f"CREATE DATABASE {name}"))
    asyncio.run(_extended_like(settings, own))
    asyncio.run(migrate(own.migrate_url))
    yield own
    asyncio.run(_as_owner(settings, f"DROP DATABASE {name}"))


async def _extended_like(settings: Settings, own: Settings) -> None:
    """With TimescaleDB, where the database that it stands beside has it."""
    for row in await rows(settings, "SELECT extname FROM pg_extension WHERE extname = 'timescaledb'"):
        await _as_owner(own, f"CREATE EXTENSION IF NOT EXISTS {row['extname']}")


async def _as_owner(settings: Settings, statement: str) -> None:
    async with connect(settings.migrate_url, service="tests") as owner:
        await owner.execute(statement)


async def rows(settings: Settings, query: str, *values: object) -> list[dict[str, Any]]:
    """What the database says, as its owner sees it."""
    async with connect(settings.migrate_url, service="tests") as owner:
        return [dict(row) for row in await owner.fetch(query, *values)]


async def positions(settings: Settings, group: Group) -> dict[str, int]:
    """How far each order is in a group."""
    query = in_schema("SELECT order_id, position FROM SCHEMA.stream_positions WHERE group_name = $1", group.schema)
    return {row["order_id"]: row["position"] for row in await rows(settings, query, group.name)}


async def held(settings: Settings, group: Group) -> list[dict[str, Any]]:
    """What a group holds, in order."""
    query = in_schema("SELECT * FROM SCHEMA.held_facts WHERE group_name = $1 ORDER BY order_id, position", group.schema)
    return await rows(settings, query, group.name)


async def own_topic(settings: Settings, partitions: int = 4) -> str:
    name = f"tests.{secrets.token_hex(6)}"
    async with admin(settings) as kafka:
        await kafka.create_topics([NewTopic(name, partitions, 1)])
    return name


def placing(order: Order, at: datetime = NOW) -> Change:
    """The order placed as the gateway does, with all that its fact says."""
    names = ("items", "item_count", "subtotal", "delivery_fee", "total", "address", "payment_method_id")
    wish = Wish(action=Action.PLACE, data={name: getattr(order, name) for name in names})
    return decide(order, wish, cause_of(Action.PLACE, order), at, wait)


def journey(state: State = State.DELIVERED, at: datetime = NOW, order: Order | None = None) -> list[Change]:
    """The changes that bring an order to a state."""
    changes = [placing(order or unplaced(at), at)]
    for action in WAY_TO[state]:
        changes.append(change_of(action, changes[-1].order, at))
    return changes


def facts(changes: Iterable[Change], topic: str) -> list[OutboxRow]:
    """What these changes publish on `orders.events`."""
    return [_row(change, e.position, e.event_id, e.type.value, e.fact, topic) for change in changes for e in change.events]


def audits(changes: Iterable[Change], topic: str) -> list[OutboxRow]:
    """What these changes publish on `audit.events`."""
    return [_row(change, e.position, e.audit_id, e.action, e.audit, topic) for change in changes for e in change.events]


def _row(change: Change, position: int, key: str, kind: str, body: bytes, topic: str) -> OutboxRow:
    return OutboxRow(
        event_id=key, aggregate_id=change.order.order_id, position=position, type=kind, schema_version=1, body=body,
        headers=change.headers, broker=Broker.KAFKA, destination=topic, occurred_at=change.order.updated_at,
    )  # fmt: skip


async def publish(settings: Settings, rows: Sequence[OutboxRow]) -> None:
    """Put these on their topics, as the relay does."""
    async with open_producer(settings.kafka_bootstrap, service="tests", timeout_ms=10_000) as producer:
        sent = [await producer.send(r.destination, r.aggregate_id, r.body, attributes(r, KAFKA_PREFIX)) for r in rows]
        assert not any(await producer.settle(sent))


def named(noun: str) -> str:
    """A group of the test's own."""
    return f"{noun}-{secrets.token_hex(4)}"


def member(settings: Settings, group: Group, *, batch_rows: int = 500) -> tuple[Stream, Consumer]:
    consumer = Consumer(settings.kafka_bootstrap, group.name, [group.topic], linger_ms=10)
    dsn = settings.audit_url if group.schema == "audit" else settings.postgres_dsn
    return Stream(group, consumer, dsn, batch_rows=batch_rows, time_scale=settings.time_scale), consumer


@asynccontextmanager
async def following(settings: Settings, *groups: Group, batch_rows: int = 500) -> AsyncIterator[None]:
    """One member of each of these groups runs meanwhile, and must not have ended by itself."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(_follow(settings, group, batch_rows, stop)) for group in groups]
    tasks += [asyncio.create_task(Courier(group, settings).run(stop)) for group in groups]
    try:
        yield
        assert not [task for task in tasks if task.done()]
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _follow(settings: Settings, group: Group, batch_rows: int, stop: asyncio.Event) -> None:
    stream, consumer = member(settings, group, batch_rows=batch_rows)
    async with consumer:
        await stream.run(stop)
