"""How many letters a second a replay sends when it is not throttled, with everything that is written about each."""

import time
from datetime import timedelta
from typing import Final

import msgspec

from adapters.postgres import Pool, connect, open_pool
from adapters.settings import Settings
from bench.making import Figure
from orders.commands import SCHEMA_VERSION, command_id
from orders.envelope import AMQP_PREFIX, Broker, OutboxRow, attributes, new_traceparent
from orders.failures import FailureType
from orders.ids import new_id
from orders.names import DEAD_LETTERS, PRIORITY, Command, queue_of
from orders.parking import (
    ATTEMPTS,
    CONSUMER,
    FAILURE,
    FIRST_FAILED_AT,
    LAST_ERROR,
    LAST_FAILED_AT,
    LAST_MESSAGE,
    PARKED_AT,
    REASON,
)
from outbox.letters import replays
from outbox.letters.ingest import Parked, ingest, letter_of
from outbox.letters.model import LetterFilter
from outbox.transition import utc_now

_AT_ONCE: Final = 500
_ERROR: Final = "ReplayBench"


async def replay_rate(settings: Settings, letters: int) -> list[Figure]:
    """So many open letters of one group, then one replay of all of them: from its creation to the last row in the outbox."""
    async with open_pool(settings.postgres_dsn, service="bench", size=2) as pool:
        for first in range(0, letters, _AT_ONCE):
            await _park(pool, min(_AT_ONCE, letters - first))
        began = time.perf_counter()
        replay = await replays.create(pool, LetterFilter(words=_ERROR), reason="bench", stages=(), actor="bench", now=utc_now())
        created = time.perf_counter() - began
        while await replays.step(pool, utc_now()):
            pass
        took = time.perf_counter() - began
        sent = (await replays.progress(pool, replay.replay_id)).sent
        async with connect(settings.migrate_url, service="bench") as owner:
            await owner.execute("DELETE FROM outbox WHERE broker = $1", Broker.RABBITMQ.value)
    note = f"{sent} of {letters} letters of about 1 KB, one process; the first {created:.2f} s fix which"
    return [Figure("letters replayed, not throttled", sent / took, "letters/s", note)]


async def _park(pool: Pool, count: int) -> None:
    at = utc_now() - timedelta(minutes=1)
    kind = Command.NOTIFICATION_SMS
    trail = {
        ATTEMPTS: "4", FIRST_FAILED_AT: at.isoformat(), LAST_FAILED_AT: at.isoformat(), LAST_ERROR: _ERROR,
        LAST_MESSAGE: "no answer within 10 s", FAILURE: FailureType.SERVICE_UNAVAILABLE.value, CONSUMER: queue_of(kind).value,
        REASON: "attempts-spent", PARKED_AT: at.isoformat(),
    }  # fmt: skip
    parked = []
    for _ in range(count):
        order_id = new_id("ord")
        body = {"order_id": order_id, "position": 3, "recipient": "customer", "template": "payment_failed", "params": {}}
        row = OutboxRow(
            event_id=command_id(order_id, 3, kind), aggregate_id=order_id, position=3, type=kind.value,
            schema_version=SCHEMA_VERSION, body=msgspec.json.encode(body), headers={"traceparent": new_traceparent()},
            broker=Broker.RABBITMQ, destination=kind.value, priority=PRIORITY[kind], occurred_at=at,
        )  # fmt: skip
        headers = {**attributes(row, AMQP_PREFIX), **trail}
        parked.append(
            Parked(
                queue=DEAD_LETTERS, routing_key=row.destination, headers=headers, body=row.body, message_id=row.event_id,
                priority=row.priority,
            )
        )  # fmt: skip
    await ingest(pool, [letter_of(each, at) for each in parked])
