"""How many rows a second each lane of the relay moves, alone and while a backup holds an old snapshot."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from adapters.postgres import Pool, connect, open_pool
from adapters.settings import Settings
from bench.making import Figure, outbox_rows
from orders.envelope import Broker
from outbox.__main__ import run_relay
from outbox.transition import enqueue

_AT_ONCE: Final = 1_000
_LOOK_S: Final = 0.02


async def relay_rates(settings: Settings, rows: int) -> list[Figure]:
    """Both lanes, each by itself; then Kafka's again behind an old snapshot, which a naive reader slows down under."""
    figures = []
    async with open_pool(settings.postgres_dsn, service="bench", size=2) as pool:
        for broker in Broker:
            rate = await _drain(settings, pool, broker, rows)
            figures.append(Figure(f"relay to {broker.value}", rate, "rows/s", f"{rows} rows of 800 bytes, one process"))
        async with _old_snapshot(settings):
            await _drain(settings, pool, Broker.KAFKA, 2 * rows)
            rate = await _drain(settings, pool, Broker.KAFKA, rows)
        note = f"after {2 * rows} removed rows that an old snapshot keeps"
        figures.append(Figure("relay to kafka, old snapshot", rate, "rows/s", note))
    return figures


async def _drain(settings: Settings, pool: Pool, broker: Broker, count: int) -> float:
    for first in range(0, count, _AT_ONCE):
        await enqueue(pool, outbox_rows(broker, min(_AT_ONCE, count - first)))
    stop, began = asyncio.Event(), time.perf_counter()
    task = asyncio.create_task(run_relay(settings, stop, [broker]))
    while await pool.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE broker = $1)", broker.value):
        await asyncio.sleep(_LOOK_S)
    took = time.perf_counter() - began
    stop.set()
    await task
    return count / took


@asynccontextmanager
async def _old_snapshot(settings: Settings) -> AsyncIterator[None]:
    async with connect(settings.postgres_dsn, service="backup") as conn, conn.transaction(isolation="repeatable_read"):
        await conn.fetchval("SELECT count(*) FROM outbox")
        yield
