"""The only place for commands that no order waits for, and that must be done all the same: each is watched until it is.

What a stream or an automatic fix asks for is not among its order's pending commands: they do not change orders. So it is on
record here, from the transaction that wrote it to the outbox until it is done or parked, and the clock issues it again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from adapters.postgres import Connection
from orders.envelope import Broker, OutboxRow
from outbox import sql
from outbox.transition import Executor, enqueue

_LONGEST: Final = timedelta(days=7)  # as long as what was done is remembered


async def enqueue_watched(db: Executor, rows: Sequence[OutboxRow]) -> None:
    """Write these commands to the outbox, and watch them. In the caller's transaction, or what is watched may be lost."""
    if not rows:
        return
    await enqueue(db, list(rows))
    await db.execute(
        sql.WATCH, [r.event_id for r in rows], [r.aggregate_id for r in rows], [r.position for r in rows],
        [r.type for r in rows], [r.schema_version for r in rows], [r.body for r in rows], [r.headers for r in rows],
        [r.destination for r in rows], [r.priority for r in rows], [r.occurred_at for r in rows],
    )  # fmt: skip


async def issue_again(conn: Connection, now: datetime, after: timedelta, most: int) -> int:
    """What was issued so long ago and is neither done nor parked, once more; the rest is watched no longer. Returns how many."""
    await conn.execute(sql.WATCHED_NO_MORE, now - after, now - _LONGEST, most)
    due = await conn.fetch(sql.WATCHED_DUE, now, now - after, most)
    await enqueue(conn, [msgspec.convert({**record, "broker": Broker.RABBITMQ}, OutboxRow) for record in due])
    return len(due)
