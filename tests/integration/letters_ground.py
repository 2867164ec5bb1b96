"""Parked messages of every kind, and what the tables then say of them."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.postgres import Pool
from orders import parking
from orders.commands import SCHEMA_VERSION, command_id
from orders.envelope import AMQP_PREFIX
from orders.failures import FailureType
from orders.ids import new_id
from orders.names import DEAD_LETTERS, POISON, Command, queue_of
from outbox.letters.ingest import ingest
from outbox.letters.model import Letter
from outbox.letters.parked import Parked, letter_of
from outbox.letters.reading import as_letter

BEGINNING = datetime(2026, 3, 14, 18, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return BEGINNING + timedelta(minutes=minutes)


def parked(
    kind: Command = Command.RESTAURANT_NOTIFY,
    *,
    order_id: str = "",
    key: str = "",
    minute: float = 0,
    began: float | None = None,
    body: bytes = b"{}",
    poison: bool = False,
    headers: dict[str, Any] | None = None,
    **trail: Any,
) -> Parked:
    """A command whose attempts are spent, parked at this minute; it failed first at `began`."""
    order_id = order_id or new_id("ord")
    key = key or command_id(order_id, 2, kind)
    given = {
        f"{AMQP_PREFIX}id": key, f"{AMQP_PREFIX}type": kind.value, f"{AMQP_PREFIX}subject": order_id,
        f"{AMQP_PREFIX}schemaversion": str(SCHEMA_VERSION), f"{AMQP_PREFIX}position": "2",
        parking.CONSUMER: queue_of(kind).value, parking.ATTEMPTS: "4", parking.REASON: "attempts-spent",
        parking.FIRST_FAILED_AT: at(minute - 21 if began is None else began).isoformat(),
        parking.LAST_FAILED_AT: at(minute).isoformat(), parking.LAST_ERROR: trail.get("error", "WebhookFailed"),
        parking.LAST_MESSAGE: trail.get("message", "the restaurant answered 500"),
        parking.FAILURE: trail.get("failure", FailureType.SERVICE_UNAVAILABLE).value,
        (parking.QUARANTINED_AT if poison else parking.PARKED_AT): at(minute).isoformat(), **(headers or {}),
    }  # fmt: skip
    queue = POISON if poison else DEAD_LETTERS
    return Parked(queue=queue, routing_key=kind.value, headers=given, body=body, message_id=key, priority=2)


async def record(pool: Pool, *messages: Parked, minute: float = 10_000) -> list[str]:
    """As the letters' process does it. Returns the letters that are new or open again."""
    return await ingest(pool, [letter_of(message, at(minute)) for message in messages], at(minute))


def id_of(message: Parked) -> str:
    return letter_of(message, at(10_000)).letter_id


async def letter(pool: Pool, letter_id: str) -> Letter:
    row = await pool.fetchrow("SELECT * FROM dead_letters WHERE letter_id = $1", letter_id)
    assert row is not None, letter_id
    return as_letter(row)


async def told(pool: Pool, letter_id: str) -> list[str]:
    """What was done to a letter, in order."""
    return [
        row["action"]
        for row in await pool.fetch("SELECT action FROM letter_history WHERE letter_id = $1 ORDER BY id", letter_id)
    ]


async def assert_counted(pool: Pool) -> None:
    """Each group counts exactly the letters that are there."""
    counted = {
        row["fingerprint"]: (row["total"], row["open"])
        for row in await pool.fetch("SELECT fingerprint, total, open FROM letter_groups")
        if row["total"] or row["open"]
    }
    letters = await pool.fetch("SELECT fingerprint, state FROM dead_letters")
    total = Counter(row["fingerprint"] for row in letters)
    still = Counter(row["fingerprint"] for row in letters if row["state"] in ("open", "replaying"))
    assert counted == {fingerprint: (number, still[fingerprint]) for fingerprint, number in total.items()}


async def set_state(pool: Pool, letter_ids: Sequence[str], minute: float, state: str = "resolved") -> None:
    """What a replay that came to its end leaves behind."""
    await pool.execute(
        """WITH chosen AS (
               UPDATE dead_letters SET state = $2, resolution = 'replayed', resolved_by = 'worker', resolved_at = $3
               WHERE letter_id = ANY ($1) RETURNING fingerprint)
           UPDATE letter_groups g SET open = open - (SELECT count(*) FROM chosen c WHERE c.fingerprint = g.fingerprint)""",
        list(letter_ids), state, at(minute),
    )  # fmt: skip
