"""The only place that records letters: a message from a dead queue becomes one, whatever its bytes and headers are."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Executor, transaction
from orders.lifecycle import GIVEN_UP
from orders.names import DEAD_LETTERS, Command
from orders.names import POISON as POISON_QUEUE
from outbox import alerts, metrics
from outbox.letters import sql
from outbox.letters.model import Letter, LetterState, Source
from outbox.letters.parked import Parked, letter_of

KILLS_ITS_WORKER: Final = "kills-its-worker"  # the slug of the workers' error

__all__ = ["Parked", "ingest", "letter_of"]


async def ingest(db: Executor, letters: Sequence[Letter], now: datetime | None = None) -> list[str]:
    """Record letters, all or none of them; a copy of what is recorded changes nothing. Returns the ids of those that are
    new or open again.

    Also takes letters that are born resolved. Raises `DatabaseUnavailable`: whether they are recorded is then unknown, and
    recording them again does no harm.
    """
    if not letters:
        return []
    at = now or max(letter.parked_at for letter in letters)
    rows = [_row(letter) for letter in letters]
    try:
        async with transaction(db) as conn:
            await _let_go(conn, letters)
            changed: list[str] = await conn.fetchval(sql.INGEST, rows, [letter.body for letter in letters], at)
            await _alarm(conn, [letter for letter in letters if letter.letter_id in set(changed)], at)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the letters may or may not be recorded: {error}") from error
    for letter in letters:
        metrics.LETTERS_INGESTED.labels(letter.consumer, letter.failure_type.value).inc()
    return changed


async def _let_go(conn: Connection, letters: Sequence[Letter]) -> None:
    """Not before now: a command that was lost with its dead queue is still the watchdog's.

    Whose order ends by `GIVEN_UP` is its worker's, and what nobody could read is issued again.
    """
    parked = [
        (letter.order_id, letter.message_id) for letter in letters
        if letter.source is Source.COMMAND and letter.order_id and letter.type not in GIVEN_UP
        and (letter.queue == DEAD_LETTERS or letter.reason == KILLS_ITS_WORKER)
    ]  # fmt: skip
    if parked:
        await conn.execute(sql.LET_GO, [order_id for order_id, _ in parked], [message_id for _, message_id in parked])


def _row(letter: Letter) -> Mapping[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(letter).items() if name != "body"}


async def _alarm(conn: Connection, letters: Sequence[Letter], now: datetime) -> None:
    """Poison and refunds that were parked are nobody's to find by chance."""
    raised: dict[tuple[str, str], str] = {}
    for letter in letters:
        if letter.state is not LetterState.OPEN:
            continue
        if letter.queue == POISON_QUEUE:
            raised[alerts.POISON, letter.fingerprint] = f"{letter.consumer}: {letter.error}: {letter.message}"
        elif letter.type == Command.PAYMENT_REFUND:
            raised[alerts.REFUND_PARKED, letter.letter_id] = f"order {letter.order_id}: {letter.error}: {letter.message}"
    for (kind, subject), detail in sorted(raised.items()):
        await alerts.raise_alert(conn, kind, subject, detail, now)
