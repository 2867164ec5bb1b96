"""Letters as operators find them in the morning, for the tests of /v1/ops and of `rushline dlq`."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from adapters.postgres import Pool
from orders.commands import command_id
from orders.failures import CATEGORY, Category, FailureType
from orders.ids import new_id
from orders.names import Command, queue_of
from outbox.letters.fingerprint import fingerprint
from outbox.letters.ingest import ingest
from outbox.letters.model import Letter, LetterState, Source, letter_id

_numbers = itertools.count(1)


def letter(
    kind: Command = Command.PAYMENT_CHARGE,
    *,
    failure: FailureType = FailureType.PAYMENT_TIMEOUT,
    error: str = "ProviderUnavailable",
    failed_at: datetime | None = None,
    body: bytes | None = None,
    **changes: Any,
) -> Letter:
    """An open letter: a command that spent its attempts."""
    order_id = changes.pop("order_id", None) or new_id("ord")
    position = next(_numbers)
    at = failed_at or datetime.now(UTC)
    message_id = command_id(order_id, position, kind)
    consumer = queue_of(kind).value
    fields = {
        "letter_id": letter_id(message_id, consumer), "source": Source.COMMAND, "message_id": message_id,
        "consumer": consumer, "queue": "orders.dlq", "order_id": order_id, "type": kind.value, "schema_version": 1,
        "position": None, "routing_key": kind.value, "priority": 5,
        "headers": {"cloudEvents_type": kind.value, "cloudEvents_id": message_id, "rushline-attempts": "4"},
        "body": msgspec.json.encode({"order_id": order_id, "position": position}) if body is None else body,
        "failure_type": failure, "category": CATEGORY[failure], "reason": "attempts-spent", "error": error,
        "message": "no answer within 10 s", "stack": "", "fingerprint": fingerprint(consumer, kind.value, failure.value, error),
        "attempts": 4, "generation": 1, "first_failed_at": at - timedelta(minutes=21), "last_failed_at": at, "parked_at": at,
    }  # fmt: skip
    return Letter(**{**fields, **changes})  # type: ignore[arg-type]  # one of each type


def poison(body: bytes = b"\x00\xff not json", **changes: Any) -> Letter:
    """Bytes that nobody can read."""
    return letter(
        failure=FailureType.INVALID_MESSAGE, error="BadMessage", body=body, queue="orders.dlq.poison",
        **{"category": Category.POISON, "quarantined_at": datetime.now(UTC), "message": "the body is not JSON", **changes},
    )  # fmt: skip


async def park(pool: Pool, letters: Sequence[Letter]) -> list[str]:
    """Record them as the letters' process does."""
    await ingest(pool, letters)
    return [each.letter_id for each in letters]


async def state_of(pool: Pool, letter_id: str) -> LetterState:
    return LetterState(await pool.fetchval("SELECT state FROM dead_letters WHERE letter_id = $1", letter_id))


async def everything(pool: Pool) -> list[Any]:
    """All that an operator can change, to show that nothing was."""
    tables = ("dead_letters", "letter_groups", "letter_history", "letter_edits", "letter_replays", "letter_rules", "outbox")
    return [await pool.fetch(f"SELECT to_jsonb(t) AS row FROM {table} t ORDER BY 1") for table in tables]  # noqa: S608
