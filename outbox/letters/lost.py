"""The only place that sends a letter's message once more where it has been under way for so long that a broker may have lost it.

Sent with the same identity, as the clock does with what an order waits for: what was only slow is recognised by the inbox.
"""

from datetime import datetime, timedelta
from typing import Final

from adapters.postgres import Pool
from outbox.letters import sending_sql as sql
from outbox.letters.sending import send, writing

# Longer than all tiers together. A message that waits for a dependency is then there twice, and done once.
_LOST_AFTER: Final = timedelta(hours=1)
_AT_ONCE: Final = 200


async def step(pool: Pool, now: datetime) -> int:
    """One batch. Returns how many were sent once more. Raises `DatabaseUnavailable`."""
    async with writing(pool) as conn:
        lost = await conn.fetch(sql.UNDER_WAY_SINCE, now - _LOST_AFTER, _AT_ONCE)
        await conn.execute(sql.OPEN_AGAIN, [record["letter_id"] for record in lost])
        for record in lost:
            await send(conn, [record["letter_id"]], actor=record["actor"], now=now, replay_id=record["replay_id"])
        return len(lost)
