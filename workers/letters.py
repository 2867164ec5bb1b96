"""The composition root of the letters: takes them in from both dead queues, and keeps them."""

import asyncio
from typing import Final

from adapters.postgres import open_pool
from adapters.process import serve
from adapters.rabbitmq_consumer import Consumer
from adapters.settings import Settings
from orders.names import DEAD_LETTERS, POISON
from outbox.letters.keeper import Keeper
from workers.intake import MOST, Intake

SERVICE: Final = "worker-letters"
_POISON_IN_HAND: Final = 32  # each of them may have many megabytes
_DRAIN_S: Final = 5.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Record letters and keep them until stopped. Only one process keeps at a time; any number may record."""
    async with open_pool(settings.postgres_dsn, service=SERVICE, size=4) as pool:
        intake = Intake(pool)
        consumers = [
            Consumer(settings.rabbitmq_url, intake.take, service=SERVICE, queues=[queue], concurrency=hands, drain_s=_DRAIN_S)
            for queue, hands in ((DEAD_LETTERS, 2 * MOST), (POISON, _POISON_IN_HAND))
        ]
        async with asyncio.TaskGroup() as tasks:
            for consumer in consumers:
                tasks.create_task(consumer.run(stop))
            tasks.create_task(intake.run(stop))
            tasks.create_task(Keeper(pool, settings).run(stop))


if __name__ == "__main__":
    serve(SERVICE, run)
