"""The composition roots of the relay and the clock."""

import asyncio
from collections.abc import Sequence

from adapters.kafka import open_producer
from adapters.postgres import open_pool
from adapters.rabbitmq import open_publisher
from adapters.settings import Settings
from orders.envelope import Broker
from outbox.clock import Clock
from outbox.lanes import KafkaLane, RabbitLane
from outbox.relay import Relay

LANES = tuple(Broker)


async def run_relay(settings: Settings, stop: asyncio.Event, lanes: Sequence[Broker] = LANES) -> None:
    """Both lanes, or some, until stopped. They share nothing but the process: each has its own connections."""
    async with asyncio.TaskGroup() as tasks:
        for lane in lanes:
            tasks.create_task(_run_lane(settings, stop, lane))


async def _run_lane(settings: Settings, stop: asyncio.Event, broker: Broker) -> None:
    service, timeout_ms = f"relay-{broker.value}", settings.publish_timeout_ms
    async with open_pool(settings.postgres_dsn, service=service, size=2) as pool:
        match broker:
            case Broker.RABBITMQ:
                async with open_publisher(settings.rabbitmq_url, service=service, timeout_ms=timeout_ms) as publisher:
                    await Relay(pool, RabbitLane(publisher), settings).run(stop)
            case Broker.KAFKA:
                async with open_producer(settings.kafka_bootstrap, service=service, timeout_ms=timeout_ms) as producer:
                    await Relay(pool, KafkaLane(producer), settings).run(stop)


async def run_clock(settings: Settings, stop: asyncio.Event) -> None:
    """The clock, until stopped."""
    async with open_pool(settings.postgres_dsn, service="clock", size=2) as pool:
        await Clock(pool, settings).run(stop)
