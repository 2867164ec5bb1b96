"""The only place that keeps a list of the messages that enter while the demonstration plays, and asks where each one is.

The outbox forgets what it has published, so a trigger of the demonstration's own writes down what each row was as it comes. It
is taken away at the end; where the demonstration is killed, it does nothing any more after an hour. Its table is there only
meanwhile: that is why these statements are not beside the others.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString

import msgspec

from adapters.postgres import Connection
from console.demo.evidence import Entry
from orders import parking

_AT_MOST: Final = timedelta(hours=1)

# From now on, each row of the outbox. UNTIL stands for a time, LETTER for the header of what is or was a letter.
_NOTE: Final[LiteralString] = """
CREATE UNLOGGED TABLE demo_entries (
    event_id text NOT NULL, aggregate_id text NOT NULL, position integer, type text NOT NULL, broker text NOT NULL,
    destination text NOT NULL, letter_id text);
CREATE FUNCTION demo_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO demo_entries SELECT event_id, aggregate_id, position, type, broker, destination, headers ->> 'LETTER'
    FROM entering;
    RETURN NULL;
END $$;
CREATE TRIGGER demo_notes AFTER INSERT ON outbox REFERENCING NEW TABLE AS entering FOR EACH STATEMENT
    WHEN (clock_timestamp() < 'UNTIL') EXECUTE FUNCTION demo_note();
"""

# No trace of it, whether or not it was there.
_FORGET: Final[LiteralString] = """
DROP TRIGGER IF EXISTS demo_notes ON outbox;
DROP FUNCTION IF EXISTS demo_note;
DROP TABLE IF EXISTS demo_entries;
"""

# Each message to RabbitMQ once, however often it was sent, and what became of it. A parked fact is its letter.
_ENTERED: Final[LiteralString] = """
SELECT e.event_id AS message_id, e.type, l.state,
       EXISTS (SELECT FROM inbox WHERE message_id = e.event_id) AS done,
       EXISTS (SELECT FROM orders WHERE order_id = e.aggregate_id AND pending ? e.event_id) AS pending
FROM (SELECT event_id, min(type) AS type, min(aggregate_id) AS aggregate_id, min(letter_id) AS letter_id
      FROM demo_entries WHERE broker = 'rabbitmq' GROUP BY event_id) e
LEFT JOIN LATERAL (
    SELECT state FROM dead_letters WHERE message_id = e.event_id OR letter_id = e.letter_id
    ORDER BY state IN ('open', 'replaying') DESC LIMIT 1) l ON true
"""

# How many facts of orders entered, by their topic: of their steps, not of what people read or did beside them.
_FACTS: Final[LiteralString] = """
SELECT destination, count(DISTINCT event_id) AS facts FROM demo_entries
WHERE broker = 'kafka' AND position IS NOT NULL AND aggregate_id ~ '^ord_[0-9a-f-]+$' GROUP BY destination ORDER BY destination
"""


@asynccontextmanager
async def noted(db: Connection) -> AsyncIterator[None]:
    """Meanwhile each message that enters is written down. `db` belongs to the owner of the tables; nobody is at work yet."""
    await db.execute(_FORGET)
    until = (datetime.now(UTC) + _AT_MOST).isoformat()
    await db.execute(_NOTE.replace("UNTIL", until).replace("LETTER", parking.LETTER))
    try:
        yield
    finally:
        await db.execute(_FORGET)


async def entered(db: Connection) -> list[Entry]:
    """Every message to RabbitMQ that entered since `noted`, with what became of it."""
    return [msgspec.convert(dict(row), Entry) for row in await db.fetch(_ENTERED)]


async def facts_entered(db: Connection) -> dict[str, int]:
    """How many facts with a place in their order entered, by topic."""
    return {row["destination"]: row["facts"] for row in await db.fetch(_FACTS)}


def tally(entries: Iterable[Entry]) -> dict[str, dict[str, int]]:
    """By type: how many entered, and how many of them are where."""
    counted: dict[str, Counter[str]] = {}
    for entry in entries:
        counted.setdefault(entry.type, Counter()).update(("entered", entry.place))
    return {kind: dict(counts.most_common()) for kind, counts in sorted(counted.items())}


def in_words(counts: dict[str, int]) -> str:
    """Where the messages of one type are."""
    return ", ".join(f"{number} {place}" for place, number in counts.items() if place != "entered")
