"""The only place where what an operator decided about a letter reaches the fact that a stream holds.

A letter of a fact is not sent again: the fact never left its stream, which holds it with the later facts of its order. To
replay is to wake it, to discard is to have it passed over; either way the stream itself goes on in order, in a transaction of
its own. No other process moves the positions of a running group.

The decision is written in the transaction that changes the letter. Where the fact is held in another schema, perhaps on
another server (the audit stream's), it is a row that the stream fetches.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from adapters.postgres import Connection
from outbox.letters import held_sql, sending_sql
from outbox.letters.model import Letter

DONE: Final = "done"  # as `sending.DONE`: the fact took effect


async def wake(conn: Connection, letter_ids: Sequence[str], *, now: datetime) -> set[str]:  # noqa: ARG001  # the server's clock counts
    """Let the facts of these letters be tried again at once, their attempts anew, in the caller's transaction.

    Returns the letters whose fact is held: of the others, it took effect or was passed meanwhile, and nothing is left to do.
    Whoever calls has the letters locked. When a fact takes effect, its stream settles its letter; when it fails again
    until its attempts are spent, the letter comes back through the dead queue.
    """
    return {record["letter_id"] for record in await conn.fetch(held_sql.WAKE, list(letter_ids))}


async def skip(conn: Connection, letter: Letter, *, actor: str, now: datetime) -> bool:  # noqa: ARG001  # the letter's history has them
    """Let the fact of this letter never take effect: later facts of its order no longer wait behind it.

    In the caller's transaction. False where it is held no longer. A fact whose position nobody could read is let go of; if it
    was the one that others wait for, they go on waiting: `rushline stream skip` names the order.
    """
    return bool(await conn.fetch(held_sql.SKIP, [letter.letter_id]))


async def settle_all(conn: Connection, letter_ids: Sequence[str], *, outcome: str, now: datetime) -> None:
    """The facts that were these letters came to their end, in the caller's transaction. Idempotent."""
    resolution = None if outcome == DONE else outcome
    await conn.execute(sending_sql.RESOLVE, sorted(letter_ids), resolution, None, now, outcome)
