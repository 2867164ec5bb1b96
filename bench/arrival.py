"""How long a committed row takes to its consumer, through the relay and each broker, at a steady pace."""

import asyncio
import time
from typing import Any, Final

import aio_pika
from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.postgres import open_pool
from adapters.settings import Settings
from adapters.topology_declared import declared_kafka
from bench.making import Figure, outbox_rows, percentile
from orders.envelope import Broker
from orders.names import ORDERS_TOPIC, Queue
from outbox.__main__ import run_relay
from outbox.transition import enqueue

_PACE: Final = 200  # rows a second
_PATIENCE_S: Final = 30


async def arrival_times(settings: Settings, rows: int) -> list[Figure]:
    """Commit to consumer, in milliseconds, for each lane while the relay is otherwise idle."""
    figures = []
    for broker, listen in ((Broker.RABBITMQ, _listen_rabbitmq), (Broker.KAFKA, _listen_kafka)):
        seen: dict[str, float] = {}
        ready, stop = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen(settings, seen, ready, stop))
            await ready.wait()
            tasks.create_task(run_relay(settings, stop, [broker]))
            committed = await _write(settings, broker, rows)
            ends = time.monotonic() + _PATIENCE_S
            while committed.keys() - seen.keys() and time.monotonic() < ends:
                await asyncio.sleep(0.05)
            stop.set()
        times = [(seen[key] - at) * 1000 for key, at in committed.items() if key in seen]
        note = f"{len(times)} of {rows} rows, {_PACE} a second"
        figures += [
            Figure(f"commit to {broker.value} consumer, p{p}", percentile(times, p), "ms", note) for p in (50, 99)
        ]  # fmt: skip
    return figures


async def _write(settings: Settings, broker: Broker, rows: int) -> dict[str, float]:
    committed: dict[str, float] = {}
    async with open_pool(settings.postgres_dsn, service="bench", size=1) as pool:
        begin = time.monotonic()
        for number, row in enumerate(outbox_rows(broker, rows)):
            await asyncio.sleep(max(0.0, begin + number / _PACE - time.monotonic()))
            await enqueue(pool, [row])
            committed[row.event_id] = time.monotonic()
    return committed


async def _listen_rabbitmq(settings: Settings, seen: dict[str, float], ready: asyncio.Event, stop: asyncio.Event) -> None:
    connection = await aio_pika.connect(settings.rabbitmq_url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=200)
        queue = await channel.get_queue(Queue.NOTIFICATIONS.value, ensure=False)

        async def note(message: Any) -> None:
            seen[message.message_id] = time.monotonic()
            await message.ack()

        await queue.consume(note)
        ready.set()
        await stop.wait()


async def _listen_kafka(settings: Settings, seen: dict[str, float], ready: asyncio.Event, stop: asyncio.Event) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(ORDERS_TOPIC, number) for number in range(_partitions())]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        ready.set()
        while not stop.is_set():
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                for record in batch:
                    seen[dict(record.headers)["ce_id"].decode()] = time.monotonic()
    finally:
        await consumer.stop()


def _partitions() -> int:
    return next(topic.partitions for topic in declared_kafka().topics if topic.name == ORDERS_TOPIC)
