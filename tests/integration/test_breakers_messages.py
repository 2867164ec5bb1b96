"""SMS away, pushes away, or both: what is told to whom meanwhile, and what is told later."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import pytest

from adapters.settings import Settings
from orders.names import DEAD_LETTERS, Command, Queue, State
from orders.order import Order
from outbox.alerts import open_alerts
from tests.integration.messaging_provider import MessagingWorld, messaging
from tests.integration.test_breakers_payments import running
from tests.integration.workers_ground import Ground, ground
from tests.making import DRIVER, eventually, walked

__all__ = ["ground"]


@dataclass(frozen=True, slots=True)
class Ways:
    """Two providers, one for each way, and the settings that lead to them."""

    sms: MessagingWorld
    push: MessagingWorld
    settings: Settings


@pytest.fixture
async def ways(ground: Ground) -> AsyncIterator[Ways]:
    async with messaging() as sms, messaging() as push:
        settings = msgspec.structs.replace(
            ground.settings, sms_api_base=sms.base, push_api_base=push.base, messaging_timeout_ms=500,
        )  # fmt: skip
        yield Ways(sms, push, settings)


async def tell(ground: Ground, order: Order, number: int) -> None:
    """So many SMS to the customer and pushes to the driver."""
    for each in range(number):
        await ground.send(order, Command.NOTIFICATION_SMS, detail=f"s{each}", recipient=order.customer_id, template="picked_up")
        await ground.send(order, Command.NOTIFICATION_PUSH, detail=f"p{each}", recipient=DRIVER, template="driver_assigned")


async def sent(way: MessagingWorld, kind: str, number: int) -> None:
    assert len(await way.taken(kind)) == number


async def alerts(ground: Ground, *subjects: str) -> None:
    found = {alert.subject for alert in await open_alerts(ground.pool) if alert.kind == "breaker-open"}
    assert found == set(subjects)


async def emptied(ground: Ground) -> None:
    assert await ground.depth(Queue.NOTIFICATIONS) == 0


async def test_with_sms_away_pushes_go_on_and_sms_wait_in_a_tier_without_spending_attempts(ground: Ground, ways: Ways) -> None:
    order = await walked(ground.pool, State.DRIVER_ASSIGNED)
    await ways.sms.behave(outage="timeout", hang_s=1)
    settings = msgspec.structs.replace(ways.settings, time_scale=1.0)  # so that they can be looked at in their tier
    async with running(settings, Queue.NOTIFICATIONS):
        await tell(ground, order, 20)
        await eventually(lambda: sent(ways.push, "push", 20))
        await eventually(lambda: emptied(ground))
        await alerts(ground, "sms")
        assert await ground.consumers(Queue.NOTIFICATIONS) == 1
    waiting = await ground.letters("orders.retry.1m")
    assert len(waiting) == 20
    assert {letter.headers.get("rushline-attempts", "0") for letter in waiting} == {"0"}


async def test_sms_that_waited_are_sent_once_when_they_can_be(ground: Ground, ways: Ways) -> None:
    order = await walked(ground.pool, State.DRIVER_ASSIGNED)
    await ways.sms.behave(outage="500")
    async with running(ways.settings, Queue.NOTIFICATIONS):
        await eventually(lambda: alerts(ground, "sms"))
        await tell(ground, order, 10)
        await eventually(lambda: sent(ways.push, "push", 10))
        await ways.sms.behave(outage=None)
        await eventually(lambda: sent(ways.sms, "sms", 10))
        await eventually(lambda: alerts(ground))
    assert await ground.depth(DEAD_LETTERS) == 0


async def test_with_pushes_away_sms_go_on_and_a_push_fails_at_once(ground: Ground, ways: Ways) -> None:
    order = await walked(ground.pool, State.DRIVER_ASSIGNED)
    await ways.push.behave(outage="timeout", hang_s=10)
    settings = msgspec.structs.replace(ways.settings, messaging_timeout_ms=2_000)
    async with running(settings, Queue.NOTIFICATIONS):
        await eventually(lambda: alerts(ground, "push"))
        began = asyncio.get_running_loop().time()
        await tell(ground, order, 40)
        await eventually(lambda: sent(ways.sms, "sms", 40))
        await eventually(lambda: emptied(ground))
        assert asyncio.get_running_loop().time() - began < 8  # 40 pushes, 8 at once, each for 2 s, would take 10
    assert await ways.push.taken("push") == []
    assert await ground.depth(DEAD_LETTERS) == 0


async def test_with_both_away_the_queue_waits_and_everything_is_told_later(ground: Ground, ways: Ways) -> None:
    order = await walked(ground.pool, State.DRIVER_ASSIGNED)
    await ways.sms.behave(outage="500")
    await ways.push.behave(outage="429")

    async def paused() -> None:
        assert await ground.consumers(Queue.NOTIFICATIONS) == 0

    async with running(ways.settings, Queue.NOTIFICATIONS, Queue.ORDERS):
        await eventually(lambda: alerts(ground, "sms", "push"))
        await eventually(paused)
        await tell(ground, order, 10)
        assert await ground.consumers(Queue.ORDERS) == 1
        await ways.sms.behave(outage=None)
        await ways.push.behave(outage=None)
        await eventually(lambda: sent(ways.sms, "sms", 10))
        await eventually(lambda: alerts(ground))
    assert await ground.depth(DEAD_LETTERS) == await ground.depth("orders.retry.1m") == 0
