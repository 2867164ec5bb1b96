"""A queue is paused alone: its consumer goes, its messages are nobody's, and the other queues are served as before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from adapters.rabbitmq_consumer import Consumer, Delivery
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually
from tests.proxy import Proxy, proxy_to

__all__ = ["ground"]

HANDS = 4


class Hands:
    """Takes messages, and keeps those of the queue `payments` in hand until `go`."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.in_hand = 0
        self.go = asyncio.Event()

    async def take(self, delivery: Delivery) -> None:
        self.in_hand += 1
        if delivery.queue == "payments":
            await self.go.wait()
        await delivery.ack()
        self.in_hand -= 1
        self.done.append((delivery.queue, delivery.message_id))


@asynccontextmanager
async def consuming(url: str, hands: Hands) -> AsyncIterator[Consumer]:
    stop = asyncio.Event()
    consumer = Consumer(url, hands.take, service="tests", queues=["payments", "drivers"], concurrency=HANDS, drain_s=2)
    running = asyncio.create_task(consumer.run(stop))
    try:
        yield consumer
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def filled(ground: Ground, key: str, number: int) -> None:
    for each in range(number):
        await ground.publish(key, b"{}", {}, key=f"{key}-{each}")


async def nobody_takes(ground: Ground, queue: str) -> None:
    assert await ground.consumers(queue) == 0


async def somebody_takes(ground: Ground, queue: str) -> None:
    assert await ground.consumers(queue) == 1


async def done(hands: Hands, queue: str, number: int) -> None:
    assert len({key for name, key in hands.done if name == queue}) == number


async def in_hand(hands: Hands, number: int) -> None:
    assert hands.in_hand == number


async def test_a_paused_queue_has_no_consumer_what_is_in_hand_ends_and_the_rest_is_for_others(ground: Ground) -> None:
    hands = Hands()
    await filled(ground, "payment.charge", 20)
    async with consuming(ground.settings.rabbitmq_url, hands) as consumer:
        await eventually(lambda: in_hand(hands, HANDS))
        consumer.pause("payments")
        await eventually(lambda: nobody_takes(ground, "payments"))
        await filled(ground, "driver.dispatch", 30)
        await eventually(lambda: done(hands, "drivers", 30))
        hands.go.set()
        await eventually(lambda: done(hands, "payments", HANDS))
        assert await ground.depth("payments") == 20 - HANDS
        consumer.resume("payments")
        await eventually(lambda: done(hands, "payments", 20))


async def test_a_paused_queue_stays_paused_when_the_connection_comes_back(ground: Ground) -> None:
    hands = Hands()
    there = urlsplit(ground.settings.rabbitmq_url)
    assert there.hostname
    assert there.port
    async with proxy_to(there.hostname, there.port) as line:
        url = there._replace(netloc=f"{there.username}:{there.password}@127.0.0.1:{line.port}").geturl()
        await _paused_over_a_cut(ground, hands, line, url)


async def _paused_over_a_cut(ground: Ground, hands: Hands, line: Proxy, url: str) -> None:
    async with consuming(url, hands) as consumer:
        await eventually(lambda: somebody_takes(ground, "payments"))
        consumer.pause("payments")
        await eventually(lambda: nobody_takes(ground, "payments"))
        line.cut()
        await eventually(lambda: nobody_takes(ground, "drivers"))
        line.mend()
        await filled(ground, "payment.charge", 3)
        await filled(ground, "driver.dispatch", 3)
        await eventually(lambda: done(hands, "drivers", 3))
        await nobody_takes(ground, "payments")
        hands.go.set()
        consumer.resume("payments")
        await eventually(lambda: done(hands, "payments", 3))


async def test_pausing_and_resuming_under_load_loses_nothing_and_takes_nothing_twice_from_itself(ground: Ground) -> None:
    hands = Hands()
    hands.go.set()
    async with consuming(ground.settings.rabbitmq_url, hands) as consumer:
        for round_ in range(10):
            for each in range(20):
                await ground.publish("payment.charge", b"{}", {}, key=f"{round_}-{each}")
            consumer.pause("payments")
            if round_ % 2:
                await eventually(lambda: nobody_takes(ground, "payments"))
            consumer.resume("payments")
        await eventually(lambda: done(hands, "payments", 200))
    assert await ground.depth("payments") == 0
    assert len([key for name, key in hands.done if name == "payments"]) == 200


async def test_a_consumer_that_is_stopped_while_a_queue_is_paused_ends_at_once(ground: Ground) -> None:
    hands = Hands()
    async with consuming(ground.settings.rabbitmq_url, hands) as consumer:
        await eventually(lambda: somebody_takes(ground, "payments"))
        consumer.pause("payments")
        await filled(ground, "payment.charge", 2)
    assert await ground.depth("payments") == 2
