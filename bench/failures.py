"""What failure costs: commands a second that succeed, that fail, and that succeed beside a fifth that fails."""

import asyncio
import statistics
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, cast

import aio_pika

from adapters.messaging import MessagingUnavailable
from adapters.postgres import Pool, connect, open_pool
from adapters.rabbitmq import Publisher, open_publisher
from adapters.rabbitmq_consumer import Consumer, Delivery
from adapters.settings import Settings
from bench.making import Figure, fresh_order
from orders.commands import command_body, command_id
from orders.decide import Cause, Wish, command_row, decide
from orders.envelope import AMQP_PREFIX, attributes
from orders.facts import Actor
from orders.ids import new_id
from orders.lifecycle import Action, Deadline
from orders.names import COMMANDS_EXCHANGE, PRIORITY, Command, Queue, Role
from orders.order import Order, Pending
from orders.tiers import TIERS
from outbox.transition import apply, utc_now, waits
from workers.delivery import Worker
from workers.moves import Mover
from workers.ports import Ports

_ORDERS: Final = 50
_ROUNDS: Final = 3
_WINDOW: Final = 500
_NOBODY: Final = new_id("cus")  # whoever tells them fails
_LOOK_S: Final = 0.01
_FOR_EVER: Final = 0.001  # of time: what went to a tier must not come back into a later round


class _Phones:
    """Takes every message but those to `_NOBODY`, in no time."""

    async def send_sms(self, to: str, body: str, idempotency_key: str) -> str:  # noqa: ARG002  # the port's
        if to == _NOBODY:
            raise MessagingUnavailable("the line is dead")
        return f"sms_{idempotency_key}"

    async def send_push(self, to: str, title: str, body: str, data: Mapping[str, str]) -> None:
        raise NotImplementedError("this benchmark sends no pushes")


async def failure_costs(settings: Settings, count: int) -> list[Figure]:
    """Messages to customers through one worker; what fails is tried in place, then moved to a tier. Medians of three rounds.

    No breaker: the one who tells them is at work, and only some messages fail.
    """
    rates: dict[str, list[float]] = {"succeed": [], "fail": [], "succeed beside a fifth that fails": []}
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings.postgres_dsn, service="bench", size=8, ready=True))
        publisher = await stack.enter_async_context(open_publisher(settings.rabbitmq_url, service="bench", timeout_ms=30_000))
        orders = await _place(settings)
        for _ in range(_ROUNDS):
            for name, every in (("succeed", 0), ("fail", 1), ("succeed beside a fifth that fails", 5)):
                failing = 0 if every == 0 else count // every
                await _send(publisher, orders, count, every)
                took = await _drain(settings, pool, publisher, count)
                rates[name].append((failing if every == 1 else count - failing) / took)
        await _empty_tiers(settings)
    median = {name: statistics.median(values) for name, values in rates.items()}
    good, bad, beside = median.values()
    note = f"{count} messages, one process, 16 at once"
    return [
        *(Figure(f"commands that {name}", rate, "commands/s", note) for name, rate in median.items()),
        Figure("a failing command costs", good / bad, "times a succeeding one"),
        Figure("succeeding ones beside a fifth that fails", 100 * (1 - beside / good), "% fewer"),
    ]


async def _empty_tiers(settings: Settings) -> None:
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        channel = await connection.channel()
        for tier in TIERS:
            await (await channel.get_queue(tier.name)).purge()


async def _place(settings: Settings) -> list[Order]:
    wait, orders = waits(settings), [fresh_order() for _ in range(_ORDERS)]
    async with connect(settings.postgres_dsn, service="bench") as conn:
        return [
            await apply(conn, decide(order, Wish(action=Action.PLACE), _because(order), utc_now(), wait)) for order in orders
        ]


def _because(order: Order) -> Cause:
    return Cause(id="bench", actor=Actor(Role.CUSTOMER, order.customer_id), service="bench", traceparent=order.traceparent)


async def _send(publisher: Publisher, orders: list[Order], count: int, every: int) -> None:
    """`count` messages, each of its own identity; one in `every` goes to nobody."""
    kind, run = Command.NOTIFICATION_SMS, new_id("evt")
    for first in range(0, count, _WINDOW):
        async with asyncio.TaskGroup() as tasks:
            for number in range(first, min(first + _WINDOW, count)):
                order = orders[number % len(orders)]
                fails = every > 0 and number % every == 0
                key = command_id(order.order_id, 1, kind, f"{run}/{number}")
                values = {
                    "order_id": order.order_id, "position": 1, "template": "refunded",
                    "recipient": _NOBODY if fails else order.customer_id,
                }  # fmt: skip
                row = command_row(key, Pending(kind.value, command_body(kind, values)), PRIORITY[kind], {}, utc_now())
                headers = attributes(row, AMQP_PREFIX)
                tasks.create_task(publisher.publish(COMMANDS_EXCHANGE, kind.value, row.body, headers, row.priority, key))


async def _drain(settings: Settings, pool: Pool, publisher: Publisher, count: int) -> float:
    """Seconds from the first delivery until each has its verdict."""
    stop, done, began = asyncio.Event(), 0, 0.0
    ports = Ports(payments=cast("Any", None), restaurants=cast("Any", None), drivers=cast("Any", None),
                  alternatives=cast("Any", None), held=cast("Any", None),
                  messages=_Phones(), answer_within=waits(settings)(Deadline.RESTAURANT_ANSWER))  # fmt: skip
    worker = Worker(pool, ports, Mover(publisher, _FOR_EVER), settings, stop)

    async def take(delivery: Delivery) -> None:
        nonlocal done, began
        began = began or time.perf_counter()
        await worker.take(delivery)
        done += 1

    consumer = Consumer(
        settings.rabbitmq_url, take, service="bench", queues=[Queue.NOTIFICATIONS.value],
        concurrency=settings.worker_concurrency, drain_s=5.0,
    )  # fmt: skip
    task = asyncio.create_task(consumer.run(stop))
    while done < count:
        await asyncio.sleep(_LOOK_S)
    took = time.perf_counter() - began
    stop.set()
    await task
    return took
