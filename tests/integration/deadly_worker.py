"""A worker process that dies at a chosen step: `python -m tests.integration.deadly_worker <what> <order>`.

The steps are killed from the ports, the publisher and the message that the worker is given; nothing of ours is changed.
"""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, replace
from typing import Any, Final

from adapters.payments import Intent, ProviderUnavailable
from adapters.postgres import open_pool
from adapters.process import serve
from adapters.rabbitmq import Publisher, open_publisher
from adapters.rabbitmq_consumer import Consumer, Delivery, Settles
from adapters.settings import Settings
from orders.names import Queue
from tests.fake_ports import FakePayments, FakePorts
from workers.delivery import Worker
from workers.moves import Mover

NOWHERE: Final = "nowhere"  # it lives; the provider is away
CHARGE: Final = "charge"
WORKS: Final = "works"  # in the place of the order: the provider is there
STEPS: Final = ("before publish", "after publish", "before ack", "after ack")


def die() -> None:
    """As the kernel does it: no clean-up, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyPayments(FakePayments):
    """One order's charge kills whoever makes it. All others succeed, after a while in hand."""

    def __init__(self, order_id: str) -> None:
        super().__init__()
        self._order_id = order_id

    async def create(self, order_id: str, amount: int, currency: str, payment_method_id: str) -> Intent:
        await asyncio.sleep(0.2)  # so that others are in hand
        if order_id == self._order_id:
            die()
        return await super().create(order_id, amount, currency, payment_method_id)

    async def retrieve(self, intent_id: str) -> Intent:
        if intent_id not in self.intents:  # the provider remembers what the process before this one made
            self.has(intent_id, "requires_confirmation")
        return await super().retrieve(intent_id)


@dataclass
class DeadlyPublisher:
    """Dies before or after its first publishing."""

    publisher: Publisher
    step: str

    async def publish(self, *message: Any) -> None:
        if self.step == "before publish":
            die()
        await self.publisher.publish(*message)
        if self.step == "after publish":
            die()


@dataclass
class DeadlyMessage:
    """Dies before or after its acknowledgement."""

    message: Settles
    step: str

    async def ack(self) -> None:
        if self.step == "before ack":
            die()
        await self.message.ack()
        if self.step == "after ack":
            await asyncio.sleep(0.2)  # until the broker has it
            die()

    async def nack(self, *, requeue: bool = True) -> None:
        await self.message.nack(requeue=requeue)

    @property
    def channel(self) -> Any:
        return self.message.channel


async def work(settings: Settings, stop: asyncio.Event, what: str, order_id: str) -> None:
    """Do payments until stopped, or until that step."""
    fakes = FakePorts()
    if what == CHARGE:
        fakes.payments = DeadlyPayments(order_id)
    elif order_id != WORKS:
        fakes.payments.always["create"] = ProviderUnavailable("away")
    async with (
        open_pool(settings.postgres_dsn, service="tests", size=8) as pool,
        open_publisher(settings.rabbitmq_url, service="tests", timeout_ms=2_000) as publisher,
    ):
        worker = Worker(pool, fakes.ports, Mover(DeadlyPublisher(publisher, what), settings.time_scale), settings, stop)

        async def take(delivery: Delivery) -> None:
            await worker.take(replace(delivery, message=DeadlyMessage(delivery.message, what)))

        await Consumer(
            settings.rabbitmq_url, take, service="tests", queues=[Queue.PAYMENTS.value],
            concurrency=settings.worker_concurrency, drain_s=2,
        ).run(stop)  # fmt: skip


if __name__ == "__main__":
    serve("deadly", lambda settings, stop: work(settings, stop, *sys.argv[1:]))
