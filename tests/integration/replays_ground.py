"""Letters that workers really left behind, and real workers, a real relay and a real keeper's step to send them again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
import msgspec
import pytest

from adapters.postgres import connect
from adapters.settings import Settings
from orders import parking
from orders.commands import SCHEMA_VERSION, command_body, command_id
from orders.envelope import AMQP_PREFIX, Broker, OutboxRow, attributes, new_traceparent
from orders.errors import Refuse
from orders.failures import FailureType
from orders.names import DEAD_LETTERS, POISON, PRIORITY, Command, State, queue_of
from orders.order import Order
from outbox.letters.ingest import Parked, ingest, letter_of
from outbox.letters.model import Letter, LetterState, letter_id
from outbox.letters.reading import as_letter
from outbox.letters.replays import Replay, progress, step
from tests.fake_ports import FakePorts
from tests.integration.workers_ground import Ground
from tests.making import empty, eventually, quick, relaying

ANN, BOB = "ann", "bob"


class NumberBarred(Refuse):
    """A failure that no retry helps: parked at once."""

    slug = "number-barred"


@pytest.fixture
async def clean(ground: Ground) -> Ground:
    """The same ground without any order, letter or replay."""
    await empty(ground.settings)
    async with connect(ground.settings.migrate_url, service="tests") as owner:
        await owner.execute(
            "TRUNCATE dead_letters, letter_groups, letter_history, letter_edits, letter_replays, letter_replay_items, alerts, held_facts, held_decisions CASCADE"
        )
    return ground


def now() -> datetime:
    return datetime.now(UTC)


def failed(
    order: Order,
    kind: Command = Command.NOTIFICATION_SMS,
    *,
    body: bytes | None = None,
    poison: bool = False,
    failed_at: datetime | None = None,
    number: int = 0,
    headers: dict[str, str] | None = None,
    **values: Any,
) -> Letter:
    """A command for this order as a worker parks it, made into the letter that it is."""
    at = failed_at or now()
    given = {
        "order_id": order.order_id,
        "position": order.position,
        "recipient": "customer",
        "template": "payment_failed",
        **values,
    }
    row = OutboxRow(
        event_id=command_id(order.order_id, order.position, kind, str(number) if number else ""), aggregate_id=order.order_id,
        position=order.position, type=kind.value, schema_version=SCHEMA_VERSION,
        body=msgspec.json.encode(command_body(kind, given)) if body is None else body,
        headers={"traceparent": new_traceparent(), "correlationid": "c", "causationid": "request"}, broker=Broker.RABBITMQ,
        destination=kind.value, priority=PRIORITY[kind], occurred_at=at - timedelta(hours=1),
    )  # fmt: skip
    trail = {
        parking.ATTEMPTS: "4", parking.FIRST_FAILED_AT: (at - timedelta(minutes=21)).isoformat(),
        parking.LAST_FAILED_AT: at.isoformat(), parking.LAST_ERROR: "NumberBarred", parking.LAST_MESSAGE: "barred",
        parking.FAILURE: FailureType.SERVICE_UNAVAILABLE.value, parking.CONSUMER: queue_of(kind).value,
        parking.REASON: "number-barred", parking.QUARANTINED_AT if poison else parking.PARKED_AT: at.isoformat(),
    }  # fmt: skip
    parked = Parked(
        queue=POISON if poison else DEAD_LETTERS, routing_key=row.destination,
        headers={**attributes(row, AMQP_PREFIX), **trail, **(headers or {})}, body=row.body, message_id=row.event_id,
        priority=row.priority,
    )  # fmt: skip
    return letter_of(parked, at)


async def park(ground: Ground, *letters: Letter) -> list[str]:
    """Recorded as the letters' process records them."""
    await ingest(ground.pool, letters)
    return [letter.letter_id for letter in letters]


async def letter(ground: Ground, key: str) -> Letter:
    record = await ground.pool.fetchrow("SELECT * FROM dead_letters WHERE letter_id = $1", key)
    assert record is not None
    return as_letter(record)


async def outbox(ground: Ground) -> list[OutboxRow]:
    """The commands that wait for the relay, oldest first."""
    records = await ground.pool.fetch("SELECT * FROM outbox WHERE broker = 'rabbitmq' ORDER BY id")
    return [msgspec.convert(dict(record), OutboxRow) for record in records]


async def everything(ground: Ground) -> dict[str, list[tuple[Any, ...]]]:
    """All that a refusal must leave as it was."""
    tables = ("dead_letters", "letter_groups", "letter_history", "letter_edits", "letter_replays", "letter_replay_items", "outbox",
              "orders", "order_events", "inbox")  # fmt: skip
    return {name: sorted(map(repr, await ground.pool.fetch(f"SELECT * FROM {name}"))) for name in tables}  # noqa: S608


async def history(ground: Ground, key: str) -> list[tuple[str, str]]:
    """What was done to a letter and by whom."""
    records = await ground.pool.fetch("SELECT action, actor FROM letter_history WHERE letter_id = $1 ORDER BY id", key)
    return [(record["action"], record["actor"]) for record in records]


async def open_in_groups(ground: Ground) -> int:
    return int(await ground.pool.fetchval("SELECT coalesce(sum(open), 0) FROM letter_groups"))


async def record_parked(ground: Ground) -> int:
    """What lies in the dead queues becomes letters, as the letters' process does it. Returns how many there were."""
    found: list[Parked] = []
    async with await aio_pika.connect(ground.settings.rabbitmq_url) as connection:
        channel = await connection.channel()
        for queue in (DEAD_LETTERS, POISON):
            source = await channel.get_queue(queue)
            while (message := await source.get(no_ack=True, fail=False)) is not None:
                found.append(
                    Parked(
                        queue=queue,
                        routing_key=message.routing_key or "",
                        headers=message.headers,
                        body=message.body,
                        message_id=message.message_id or "",
                        priority=message.priority or 0,
                    )
                )
    await ingest(ground.pool, [letter_of(parked, now()) for parked in found])
    return len(found)


@asynccontextmanager
async def going_on(ground: Ground, fakes: FakePorts) -> AsyncIterator[None]:
    """Workers, the relay, and what records parked messages, meanwhile."""
    stop = asyncio.Event()

    async def record() -> None:
        while not stop.is_set():
            await record_parked(ground)
            await asyncio.sleep(0.02)

    async with ground.working(fakes), relaying(quick(ground.settings), (Broker.RABBITMQ,)):
        recording = asyncio.create_task(record())
        try:
            yield
        finally:
            stop.set()
            await recording


async def stepped_until(ground: Ground, replay_id: str, *states: str) -> Replay:
    """The keeper's step again and again, until the replay is in one of these states."""

    async def there() -> None:
        await step(ground.pool, now())
        assert (await progress(ground.pool, replay_id)).state.value in states

    await eventually(there, 60)
    return await progress(ground.pool, replay_id)


__all__ = ["ANN", "BOB", "LetterState", "NumberBarred", "Sequence", "Settings", "State", "clean", "letter_id"]
