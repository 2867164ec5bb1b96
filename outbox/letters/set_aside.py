"""The only place that brings rows which the relay set aside back: each is a letter, sent back or dropped as such.

Facts that wait behind one of their order come back with it, in order.
"""

from datetime import datetime
from typing import Final

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Pool, Record, transaction
from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX, Broker, attributes
from orders.failures import CATEGORY, FailureType
from orders.parking import REASON
from outbox.lanes import WaitsBehind, as_row
from outbox.letters import set_aside_sql as sql
from outbox.letters.fingerprint import fingerprint
from outbox.letters.ingest import ingest
from outbox.letters.model import Letter, Source, letter_id

_AT_ONCE: Final = 100
_PREFIX: Final = {Broker.KAFKA: KAFKA_PREFIX, Broker.RABBITMQ: AMQP_PREFIX}
_LONGEST: Final = 200


async def step(pool: Pool, now: datetime) -> int:
    """One batch: rows set aside become letters, those that reached their broker are resolved, and facts behind which
    nothing waits any more go on. Returns how many moved. Raises `DatabaseUnavailable`.
    """
    try:
        async with transaction(pool) as conn:
            moved = await _record(conn, now)
        async with transaction(pool) as conn:
            await conn.execute(sql.RELEASE_ORPHANS, WaitsBehind.slug)
            resolved = await conn.fetch(sql.RESOLVE_SENT_BACK, now, _AT_ONCE)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"what was set aside cannot be read: {error}") from error
    return moved + len(resolved)


async def send_back(conn: Connection, letter: Letter) -> None:
    """Its row goes back to its lane, and behind it what waited for it. In the caller's transaction, with the letter held."""
    await conn.execute(sql.SEND_BACK, letter.letter_id, WaitsBehind.slug)


async def drop(conn: Connection, letter: Letter) -> None:
    """Its row is gone for good; what waited behind it goes on. In the caller's transaction, with the letter held."""
    await conn.execute(sql.DROP, letter.letter_id)
    await conn.execute(sql.RELEASE_ORPHANS, WaitsBehind.slug)


async def _record(conn: Connection, now: datetime) -> int:
    rows = await conn.fetch(sql.NEW, WaitsBehind.slug, _AT_ONCE)
    letters = [_letter(row) for row in rows]
    await ingest(conn, letters, now)
    if rows:
        await conn.execute(sql.MARK, [row["id"] for row in rows], [letter.letter_id for letter in letters])
    return len(rows)


def _letter(record: Record) -> Letter:
    """The letter that a row set aside is. Its reason is `slug: sentence`."""
    row = as_row(dict(record))
    consumer = f"relay-{row.broker.value}"
    slug, _, message = record["reason"].partition(": ")
    failure = FailureType.UNKNOWN
    at = record["set_aside_at"]
    return Letter(
        letter_id=letter_id(row.event_id, consumer),
        source=Source.OUTBOX,
        message_id=row.event_id,
        consumer=consumer,
        queue="",
        order_id=row.aggregate_id if row.aggregate_type == "order" else None,
        type=row.type,
        schema_version=row.schema_version,
        position=row.position,
        routing_key=row.destination,
        priority=row.priority,
        headers={**attributes(row, _PREFIX[row.broker]), REASON: slug[:_LONGEST]},
        body=row.body,
        failure_type=failure,
        category=CATEGORY[failure],
        reason=slug[:_LONGEST],
        error=slug[:_LONGEST],
        message=message,
        stack="",
        fingerprint=fingerprint(consumer, row.type, failure.value, slug[:_LONGEST]),
        attempts=1,
        generation=1,
        first_failed_at=at,
        last_failed_at=at,
        parked_at=at,
    )
