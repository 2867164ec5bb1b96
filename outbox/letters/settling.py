"""The only place that closes a letter whose message came to its end."""

from datetime import datetime
from typing import Final

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable
from outbox.letters import sending_sql as sql
from outbox.transition import Executor

DONE: Final = "done"  # the outcome of a message that did what it asked for
DONE_BEFORE: Final = "done before"


async def settle(db: Executor, letter_id: str, *, outcome: str, now: datetime) -> None:
    """The message that was this letter came to its end: `done`, or the slug of why there was nothing left to do. Idempotent.

    The resolution is what the letter was sent as (replayed, edited, fixed), or that slug. Raises `DatabaseUnavailable`.
    """
    resolution = None if outcome == DONE else outcome
    try:
        await db.execute(sql.RESOLVE, [letter_id], resolution, None, now, outcome)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"{letter_id} cannot be settled: {type(error).__name__}") from error
