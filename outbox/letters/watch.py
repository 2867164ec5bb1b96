"""The only place that looks at all letters from afar: the gauges, and alerts that are over."""

from datetime import datetime

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, Pool
from outbox import alerts, metrics
from outbox.letters import sql


async def step(pool: Pool, now: datetime) -> int:
    """Set the gauges; clear alerts about letters that are settled. Returns how many are open. Raises `DatabaseUnavailable`."""
    try:
        kinds = await pool.fetch(sql.OPEN_BY_KIND)
        oldest = await pool.fetchval(sql.OLDEST_OPEN)
        await pool.execute(sql.CLEAR_SETTLED, now, alerts.POISON, alerts.REFUND_PARKED)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the letters cannot be counted: {error}") from error
    for kind in kinds:
        metrics.LETTERS_OPEN.labels(kind["consumer"], kind["failure_type"]).set(kind["open"])
    metrics.LETTERS_OLDEST_S.set((now - oldest).total_seconds() if oldest else 0)
    return sum(kind["open"] for kind in kinds)
