"""The composition root of the workers: any set of queues in one process."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from adapters.messaging import Messaging
from adapters.postgres import open_pool
from adapters.process import serve
from adapters.rabbitmq import open_publisher
from adapters.rabbitmq_consumer import Consumer
from adapters.settings import Settings
from adapters.stripe import StripePayments
from adapters.topology import missing_on_rabbitmq
from adapters.topology_declared import TopologyError
from adapters.webhooks import Webhooks
from orders.names import Queue
from outbox.sql import APPLY, LOAD
from outbox.transition import utc_now
from workers.alternatives import AlternativeTable
from workers.breakers import Breakers
from workers.delivery import Worker
from workers.drivers import DriverTable
from workers.guarded import GuardedMessages, GuardedPayments
from workers.held import HeldTable
from workers.hosts import Hosts
from workers.isolation import Suspects
from workers.moves import Mover
from workers.ports import Ports
from workers.restaurants import WebhookRestaurants

_DRAIN_S: Final = 5.0


async def run(settings: Settings, queues: Sequence[Queue], stop: asyncio.Event) -> None:
    """Do the commands of these queues until stopped. Raises `TopologyError` where RabbitMQ lacks something."""
    absent = await missing_on_rabbitmq(settings)
    if absent:
        raise TopologyError(f"Missing: {', '.join(absent)}.", "Run `rushline topology apply`.")
    service = "worker" if set(queues) == set(Queue) else f"worker-{'-'.join(sorted(queue.value for queue in queues))}"
    async with (
        open_pool(
            settings.postgres_dsn, service=service, size=settings.database_pool_size, ready=True, warm=(LOAD, APPLY)
        ) as pool,
        open_publisher(settings.rabbitmq_url, service=service, timeout_ms=settings.publish_timeout_ms) as publisher,
        StripePayments(settings) as payments,
        Webhooks(settings) as webhooks,
        Messaging(settings) as messages,
        Breakers(settings, pool, payments, messages, utc_now, queues) as breakers,
    ):
        concurrency = settings.worker_concurrency
        hosts = Hosts(hands=concurrency, time_scale=settings.time_scale)
        ports = Ports(
            payments=GuardedPayments(payments, breakers.payments),
            restaurants=WebhookRestaurants(pool, webhooks, hosts, utc_now),
            drivers=DriverTable(pool, settings.time_scale),
            alternatives=AlternativeTable(pool, utc_now, agreed=settings.reroute_without_asking),
            messages=GuardedMessages(messages, breakers.sms, breakers.push),
            held=HeldTable(pool),
            answer_within=timedelta(seconds=settings.scaled_s(settings.restaurant_answer_s)),
        )
        await Suspects(pool).sweep(utc_now())
        worker = Worker(pool, ports, Mover(publisher, settings.time_scale), settings, stop)
        names = [queue.value for queue in queues]
        consumer = Consumer(
            settings.rabbitmq_url, worker.take, service=service, queues=names, concurrency=concurrency, drain_s=_DRAIN_S
        )
        breakers.steer(consumer)
        await consumer.run(stop)


if __name__ == "__main__":
    wanted = [Queue(name) for name in sys.argv[1:]] or list(Queue)
    serve("worker", lambda settings, stop: run(settings, wanted, stop))
