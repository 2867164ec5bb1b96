"""How long a page of letters takes when there are very many, whatever is asked; and how many a second are recorded."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from adapters.postgres import Pool, connect, open_pool
from adapters.settings import Settings
from bench.database import own_database
from bench.making import Figure, percentile
from orders.commands import SCHEMA_VERSION, command_id
from orders.envelope import AMQP_PREFIX, Broker, OutboxRow
from orders.failures import Category, FailureType
from orders.ids import new_id
from orders.names import DEAD_LETTERS, Command
from orders.parking import ATTEMPTS, CONSUMER, FAILURE, FIRST_FAILED_AT, LAST_ERROR, LAST_MESSAGE, PARKED_AT, PREFIX, REASON
from outbox.__main__ import run_relay
from outbox.letters import search
from outbox.letters.ingest import ingest
from outbox.letters.model import LetterFilter, LetterState
from outbox.letters.parked import Parked, letter_of
from outbox.transition import enqueue
from workers.letters import run as run_letters

DATABASE: Final = "rushline_letters"
_TIMES: Final = 5  # each kind of page
_BATCH: Final = 200
_LOOK_S: Final = 0.02

# 60 groups of very different sizes over 30 days, with an outage at its end; most letters are settled. One of a thousand has
# an owner, one of a hundred thousand a rare word.
_MANY: Final = """
INSERT INTO dead_letters (
    letter_id, source, message_id, consumer, queue, order_id, type, schema_version, position, routing_key, priority, headers,
    body, failure_type, category, reason, error, message, fingerprint, attempts, first_failed_at, last_failed_at, parked_at,
    state, resolution, resolved_by, resolved_at, owner)
SELECT 'let_' || md5('l' || n), 'command', 'cmd_' || md5('m' || n), k.consumer, 'orders.dlq', 'ord_' || md5('o' || n / 3),
       k.type, 1, 2, k.type, 2,
       jsonb_build_object('cloudEvents_id', 'cmd_' || md5('m' || n), 'cloudEvents_type', k.type, 'rushline-attempts', '4'),
       convert_to('{"order_id": "ord_' || md5('o' || n / 3) || '", "position": 2, "filler": "' || repeat('x', 200) || '"}', 'UTF8'),
       k.failure_type, k.category, k.reason, k.error,
       k.reason || ' after ' || 1000 + n % 5000 || ' ms' || CASE WHEN n % 100000 = 7 THEN ' kaleidoscope' ELSE '' END,
       left(md5('f' || k.kind), 16), 4, t.at, t.at, t.at, s.state,
       CASE WHEN s.state IN ('resolved', 'discarded') THEN 'replayed' END,
       CASE WHEN s.state IN ('resolved', 'discarded') THEN 'worker' END,
       CASE WHEN s.state IN ('resolved', 'discarded') THEN t.at + interval '1 hour' END,
       CASE WHEN n % 1000 = 0 THEN 'person-' || n % 7 END
FROM generate_series($1::integer, $2::integer) AS n
CROSS JOIN LATERAL (SELECT floor(60 * power((hashint4(n) & 65535) / 65536.0, 3))::integer AS kind) AS pick
CROSS JOIN LATERAL (
    SELECT pick.kind, (ARRAY['payments', 'restaurants', 'drivers', 'notifications', 'orders'])[1 + pick.kind % 5] AS consumer,
           (ARRAY['payment.charge', 'restaurant.notify', 'driver.dispatch', 'notification.sms', 'order.cancel'])[1 + pick.kind % 5]
               AS type,
           (ARRAY['payment_timeout', 'service_unavailable', 'unknown', 'restaurant_timeout'])[1 + pick.kind % 4] AS failure_type,
           'transient' AS category, 'trouble-' || pick.kind AS reason, 'Trouble' || pick.kind AS error) AS k
CROSS JOIN LATERAL (SELECT CASE WHEN n % 5 = 0 THEN timestamptz '2026-01-31' - make_interval(secs => n / 500.0)
                                ELSE timestamptz '2026-01-31' - make_interval(secs => n * 2.5) END AS at) AS t
CROSS JOIN LATERAL (SELECT CASE WHEN n % 100 < 60 THEN 'resolved' WHEN n % 100 < 80 THEN 'open' WHEN n % 100 < 99 THEN 'discarded'
                                ELSE 'replaying' END AS state) AS s
"""
_THEIR_GROUPS: Final = """
INSERT INTO letter_groups (fingerprint, consumer, type, failure_type, category, error, example, total, open, first_at, last_at)
SELECT fingerprint, min(consumer), min(type), min(failure_type), min(category), min(error), min(message), count(*),
       count(*) FILTER (WHERE state IN ('open', 'replaying')), min(last_failed_at), max(last_failed_at)
FROM dead_letters GROUP BY fingerprint
"""


async def letter_pages(settings: Settings, number: int) -> list[Figure]:
    """Every kind of page over so many letters: the median and the worst of a few times."""
    figures = []
    async with many_letters(settings, number) as pool:
        for name, (wanted, deep) in asked_for(await _example(pool)).items():
            took = [await _page(pool, wanted, deep) for _ in range(_TIMES)]
            figures += [
                Figure(f"letters: {name}, p50", percentile(took, 50), "ms", f"{number} letters"),
                Figure(f"letters: {name}, max", max(took), "ms"),
            ]
        took = [await _groups(pool) for _ in range(_TIMES)]
        figures.append(Figure("letters: groups, max", max(took), "ms"))
        figures.append(Figure("letters: recorded", await _recorded(pool), "letters/s", f"beside {number} others, one process"))
    return figures


@asynccontextmanager
async def many_letters(settings: Settings, number: int) -> AsyncIterator[Pool]:
    """A database of its own with so many letters."""
    async with own_database(settings, DATABASE) as own:
        async with connect(own.migrate_url, service="bench") as owner:
            for first in range(1, number + 1, 50_000):
                await owner.execute(_MANY, first, min(first + 49_999, number), timeout=300)
            await owner.execute(_THEIR_GROUPS, timeout=300)
            await owner.execute("VACUUM (ANALYZE) dead_letters", timeout=600)
            await owner.execute("ANALYZE letter_groups")
        async with open_pool(own.postgres_dsn, service="bench", size=2) as pool:
            yield pool


async def _example(pool: Pool) -> dict[str, str]:
    row = await pool.fetchrow("SELECT order_id, message_id FROM dead_letters ORDER BY letter_id LIMIT 1 OFFSET 1000")
    return dict(row or {})


def asked_for(example: dict[str, str]) -> dict[str, tuple[LetterFilter, datetime | None]]:
    """Every kind of question, and from when on its page is wanted."""
    wanted, long_ago = LetterFilter, datetime(2026, 1, 10, tzinfo=UTC)
    asked = {
        "all": wanted(),
        **{state.value: wanted(state=state) for state in LetterState},
        "failure type": wanted(failure_type=FailureType.UNKNOWN),
        "category": wanted(category=Category.TRANSIENT),
        "category without letters": wanted(category=Category.POISON),
        "consumer": wanted(consumer="drivers"),
        "type": wanted(type="payment.charge"),
        "unknown type": wanted(type="no.such"),
        "order": wanted(order_id=example["order_id"]),
        "message": wanted(message_id=example["message_id"]),
        "owner": wanted(owner="person-3"),
        "owner and type": wanted(owner="person-3", type="order.cancel", state=LetterState.REPLAYING),
        "open of a type and failure": wanted(
            state=LetterState.OPEN, type="driver.dispatch", failure_type=FailureType.PAYMENT_TIMEOUT
        ),
        "a conjunction without letters": wanted(consumer="payments", type="driver.dispatch"),
        "frequent words": wanted(words="trouble ms"),
        "rare word": wanted(words="kaleidoscope"),
        "word of one group": wanted(words='"trouble-47"'),
        "word of the largest group": wanted(words='"trouble-0"'),
        "word of few in a thousand": wanted(words="1234"),
        "absent word": wanted(words="xylophone"),
        "rare word of a type": wanted(words="kaleidoscope", type="payment.charge", state=LetterState.OPEN),
        "frequent words of an absent kind": wanted(words="trouble ms", consumer="payments", type="driver.dispatch"),
        "a large group's word among another's": wanted(words='"trouble-0"', type="restaurant.notify"),
        "a day": wanted(failed_from=long_ago, failed_before=long_ago + timedelta(days=1), state=LetterState.OPEN),
    }
    questions: dict[str, tuple[LetterFilter, datetime | None]] = {name: (each, None) for name, each in asked.items()}
    return questions | {f"{name}, deep": (each, long_ago) for name, each in asked.items()}


async def _page(pool: Pool, wanted: LetterFilter, deep: datetime | None) -> float:
    cursor = search.cursor_at(deep) if deep else None
    began = time.perf_counter()
    await search.find(pool, wanted, cursor=cursor, limit=100)
    await search.count(pool, wanted)
    return 1_000 * (time.perf_counter() - began)


async def _groups(pool: Pool) -> float:
    began = time.perf_counter()
    await search.groups(pool, open_only=False, snoozed=True, limit=100)
    return 1_000 * (time.perf_counter() - began)


def parked_messages(number: int) -> list[Parked]:
    """Commands whose attempts are spent, as workers park them."""
    now = datetime.now(UTC).isoformat()
    found = []
    for n in range(number):
        order_id = new_id("ord")
        kind, key = Command.RESTAURANT_NOTIFY, command_id(order_id, 2, Command.RESTAURANT_NOTIFY)
        headers = {
            f"{AMQP_PREFIX}id": key, f"{AMQP_PREFIX}type": kind.value, f"{AMQP_PREFIX}subject": order_id,
            f"{AMQP_PREFIX}schemaversion": str(SCHEMA_VERSION), f"{AMQP_PREFIX}position": "2", CONSUMER: "restaurants",
            ATTEMPTS: "4", FIRST_FAILED_AT: now, PARKED_AT: now, REASON: "webhook-failed", LAST_ERROR: f"Trouble{n % 5}",
            LAST_MESSAGE: f"the restaurant answered 500 after {n % 3000} ms", FAILURE: FailureType.SERVICE_UNAVAILABLE.value,
        }  # fmt: skip
        body = msgspec.json.encode({"order_id": order_id, "position": 2, "restaurant_id": new_id("rst")})
        found.append(Parked(queue=DEAD_LETTERS, routing_key=kind.value, headers=headers, body=body, message_id=key, priority=2))
    return found


async def letters_taken_in(settings: Settings, number: int) -> list[Figure]:
    """Failures a second, from the dead queue to the table, by one process of letters with its keeper."""
    async with open_pool(settings.postgres_dsn, service="bench", size=2) as pool:
        before = await pool.fetchval("SELECT count(*) FROM dead_letters")
        await enqueue(pool, [_as_row(message) for message in parked_messages(number)])
        await _meanwhile(run_relay(settings, stop := asyncio.Event(), [Broker.RABBITMQ]), stop, _emptied(pool))
        began = time.perf_counter()
        await _meanwhile(run_letters(settings, stop := asyncio.Event()), stop, _recorded_all(pool, before + number))
        took = time.perf_counter() - began
    return [Figure("letters: from the dead queue to the table", number / took, "letters/s", f"{number} failures, one process")]


async def _meanwhile(service: Coroutine[Any, Any, None], stop: asyncio.Event, until: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(service)
    await until
    stop.set()
    await task


async def _emptied(pool: Pool) -> None:
    while await pool.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE broker = 'rabbitmq')"):
        await asyncio.sleep(_LOOK_S)


async def _recorded_all(pool: Pool, number: int) -> None:
    while await pool.fetchval("SELECT count(*) FROM dead_letters") < number:
        await asyncio.sleep(_LOOK_S)


def _as_row(message: Parked) -> OutboxRow:
    """The way of a parked fact: by the outbox into the dead queue."""
    subject = str(message.headers[f"{AMQP_PREFIX}subject"])
    trail = {name: str(value) for name, value in message.headers.items() if name.startswith(PREFIX)}
    return OutboxRow(
        event_id=message.message_id, aggregate_id=subject, position=2, type=message.routing_key, schema_version=SCHEMA_VERSION,
        body=message.body, headers=trail, broker=Broker.RABBITMQ, destination=f"{DEAD_LETTERS}/{message.routing_key}",
        priority=message.priority, occurred_at=datetime.now(UTC),
    )  # fmt: skip


async def _recorded(pool: Pool) -> float:
    messages = parked_messages(4_000)
    began = time.perf_counter()
    for first in range(0, len(messages), _BATCH):
        now = datetime.now(UTC)
        await ingest(pool, [letter_of(each, now) for each in messages[first : first + _BATCH]], now)
    return len(messages) / (time.perf_counter() - began)
