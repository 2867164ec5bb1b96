"""How punctually a tier hands its messages back: 10,000 wait in it, and 200 a second arrive."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from adapters.rabbitmq import Publisher, open_publisher
from adapters.rabbitmq_consumer import Consumer, Delivery
from adapters.settings import Settings
from bench.making import Figure
from orders.names import Queue

_TIER: Final = "orders.retry.1m"
_WAIT_S: Final = 20.0  # a minute, compressed
_WINDOW: Final = 100
_KEY: Final = "payment.charge"
_PATIENCE_S: Final = 60.0
_BODY: Final = b'{"order_id": "ord_01958f6e-0000-7000-8000-000000000001", "position": 1}'


class _Watch:
    """When each message was handed to the tier, and when it came back."""

    def __init__(self) -> None:
        self.sent: dict[str, float] = {}
        self.came: dict[str, float] = {}
        self.twice = 0

    async def take(self, delivery: Delivery) -> None:
        self.twice += delivery.message_id in self.came
        self.came.setdefault(delivery.message_id, time.monotonic())
        await delivery.ack()

    async def send(self, publisher: Publisher, name: str) -> None:
        self.sent[name] = time.monotonic()
        headers = {"rushline-attempts": "1"}
        await publisher.publish(_TIER, _KEY, _BODY, headers, 4, name, round(_WAIT_S * 1_000))

    def lateness_s(self) -> list[float]:
        """Of each message, in seconds after its time; below nothing where it came early. Counted from before it was sent."""
        return sorted(self.came[name] - sent - _WAIT_S for name, sent in self.sent.items())


async def tier_lateness(settings: Settings, waiting: int = 10_000, per_second: int = 200) -> list[Figure]:
    """Fill the tier, then let more arrive until all of the first have come back."""
    watch, stop = _Watch(), asyncio.Event()
    consumer = Consumer(
        settings.rabbitmq_url, watch.take, service="bench", queues=[Queue.PAYMENTS.value], concurrency=64, drain_s=1
    )
    async with open_publisher(settings.rabbitmq_url, service="bench", timeout_ms=settings.publish_timeout_ms) as publisher:
        running = asyncio.create_task(consumer.run(stop))
        try:
            await _fill(watch, publisher, waiting)
            peak = len(watch.sent) - len(watch.came)
            await _arrive(watch, publisher, per_second)
            async with asyncio.timeout(_WAIT_S + _PATIENCE_S):
                while len(watch.came) < len(watch.sent):
                    await asyncio.sleep(0.05)
        finally:
            stop.set()
            await running
    return _figures(watch.lateness_s(), peak, per_second, watch.twice)


async def _fill(watch: _Watch, publisher: Publisher, waiting: int) -> None:
    for first in range(0, waiting, _WINDOW):
        await asyncio.gather(*(watch.send(publisher, f"first-{n}") for n in range(first, min(first + _WINDOW, waiting))))


async def _arrive(watch: _Watch, publisher: Publisher, per_second: int) -> None:
    """At an even pace, for as long as a message waits, so that the last of them meet the returning first ones."""
    began = time.monotonic()
    for number in range(round(per_second * _WAIT_S)):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        await watch.send(publisher, f"later-{number}")


def _figures(late_s: Sequence[float], peak: int, per_second: int, twice: int) -> list[Figure]:
    note = f"{len(late_s)} messages, {peak} of them waiting at once, {per_second}/s arriving, {_WAIT_S:.0f} s in the tier"
    return [
        Figure("tier: came early", float(sum(late < 0 for late in late_s)), "messages", note),
        Figure("tier: came twice", float(twice), "messages", note),
        Figure("tier: late, p50", 1_000 * late_s[len(late_s) // 2], "ms", note),
        Figure("tier: late, p99", 1_000 * late_s[len(late_s) * 99 // 100], "ms", "target: 2,000"),
        Figure("tier: late, worst", 1_000 * late_s[-1], "ms", note),
    ]
