"""The payment provider away for half an hour of business time: its queue waits, the others do not, and nothing is lost by it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from prometheus_client import REGISTRY

from adapters.settings import Settings
from orders.names import DEAD_LETTERS, POISON, Command, Queue, State
from orders.order import Order
from outbox.alerts import open_alerts
from tests.integration.messaging_provider import messaging
from tests.integration.payment_provider import KEY, ProviderProcess, World, visit
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually, placed
from workers.__main__ import run

__all__ = ["ground"]

ORDERS = 50
HALF_AN_HOUR_S = 1_800
TIERS = ("orders.retry.1m", "orders.retry.5m", "orders.retry.15m")


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    process = ProviderProcess(tmp_path_factory.mktemp("provider") / "ledger.jsonl")
    yield process
    process.kill()


@pytest.fixture
async def world(provider: ProviderProcess) -> AsyncIterator[World]:
    async with visit(provider) as world:
        yield world


@asynccontextmanager
async def running(settings: Settings, *queues: Queue) -> AsyncIterator[None]:
    """The workers' process, as it is composed."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, queues or list(Queue), stop))
    try:
        yield
        assert not task.done(), task
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


@pytest.fixture
async def settings(ground: Ground, provider: ProviderProcess) -> AsyncIterator[Settings]:
    async with messaging() as messages:
        yield msgspec.structs.replace(
            ground.settings, stripe_api_base=provider.base, stripe_api_key=KEY, stripe_timeout_ms=500,
            sms_api_base=messages.base, push_api_base=messages.base,
        )  # fmt: skip


def waits() -> float:
    """How many charges were ever sent to a tier by this process."""
    return REGISTRY.get_sample_value("rushline_commands_total", {"command": "payment.charge", "verdict": "wait"}) or 0.0


async def paused(ground: Ground, queue: Queue) -> None:
    assert await ground.consumers(queue) == 0


async def confirmed(ground: Ground, orders: list[Order]) -> None:
    for order in orders:
        assert (await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED


async def alerts(ground: Ground, *subjects: str) -> None:
    found = {alert.subject for alert in await open_alerts(ground.pool) if alert.kind == "breaker-open"}
    assert found == set(subjects)


async def moved(ground: Ground, order: Order, state: State) -> None:
    assert (await ground.order(order.order_id)).state is state


@pytest.mark.parametrize("outage", ["500", "timeout", "refuse"])
async def test_half_an_hour_without_the_provider_costs_no_order_an_attempt(
    ground: Ground, settings: Settings, world: World, outage: str
) -> None:
    orders = [await placed(ground.pool) for _ in range(ORDERS)]
    for order in orders:
        await ground.send(order, Command.PAYMENT_CHARGE)
    before = waits()
    over = asyncio.create_task(asyncio.sleep(HALF_AN_HOUR_S / ground.settings.time_scale))
    await world.behave(outage=outage, until_s=8 if outage == "refuse" else None, hang_s=2)  # who refuses cannot be told
    async with running(settings):
        await eventually(lambda: alerts(ground, "payment-provider"))
        await eventually(lambda: paused(ground, Queue.PAYMENTS))
        other = await placed(ground.pool)
        await ground.send(other, Command.ORDER_CANCEL, reason="customer")
        await eventually(lambda: moved(ground, other, State.CANCELLED))
        await paused(ground, Queue.PAYMENTS)
        assert [await ground.consumers(queue) for queue in Queue if queue is not Queue.PAYMENTS] == [1, 1, 1, 1]
        await over
        if outage != "refuse":
            await world.behave(outage=None)
        await eventually(lambda: confirmed(ground, orders))
        await eventually(lambda: alerts(ground))
    assert waits() == before
    assert [await ground.depth(queue) for queue in (DEAD_LETTERS, POISON, *TIERS, Queue.PAYMENTS)] == [0] * 6
    assert [await world.captured_minor(order.order_id) for order in orders] == [order.total for order in orders]


async def test_a_provider_that_goes_away_in_the_middle_costs_no_attempt_either(
    ground: Ground, settings: Settings, world: World
) -> None:
    orders, before = [await placed(ground.pool) for _ in range(ORDERS)], waits()
    await world.behave(latency_median_ms=30)

    async def some_confirmed() -> None:
        assert any([(await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED for order in orders])

    async with running(settings, Queue.PAYMENTS):
        for order in orders:
            await ground.send(order, Command.PAYMENT_CHARGE)
        await eventually(some_confirmed)
        await world.behave(outage="timeout", until_s=2, hang_s=1)
        await eventually(lambda: paused(ground, Queue.PAYMENTS))
        await eventually(lambda: confirmed(ground, orders))
    assert waits() == before
    assert [await ground.depth(queue) for queue in (DEAD_LETTERS, POISON, *TIERS)] == [0] * 5
    assert [await world.captured_minor(order.order_id) for order in orders] == [order.total for order in orders]


async def test_a_process_that_starts_in_an_outage_knows_it_and_clears_what_another_has_left(
    ground: Ground, settings: Settings, world: World
) -> None:
    await world.behave(outage="500")
    async with running(settings, Queue.PAYMENTS):
        await eventually(lambda: paused(ground, Queue.PAYMENTS))
        await eventually(lambda: alerts(ground, "payment-provider"))
    await world.behave(outage=None)
    async with running(settings, Queue.PAYMENTS):
        await eventually(lambda: alerts(ground))


async def test_too_many_requests_and_declines_open_nothing(ground: Ground, settings: Settings, world: World) -> None:
    orders = [await placed(ground.pool, payment_method_id="pm_card_visa_chargeDeclined") for _ in range(20)]
    async with running(settings, Queue.PAYMENTS):
        for order in orders:
            await ground.send(order, Command.PAYMENT_CHARGE)
        for order in orders:
            await eventually(lambda order=order: moved(ground, order, State.PAYMENT_FAILED))  # type: ignore[misc]
        await alerts(ground)


async def test_a_provider_that_answers_reads_and_fails_every_write_is_found_out_by_the_rate(
    ground: Ground, settings: Settings, world: World
) -> None:
    orders = [await placed(ground.pool) for _ in range(ORDERS)]
    await world.behave(error_after_rate=1)
    async with running(msgspec.structs.replace(settings, time_scale=60.0), Queue.PAYMENTS):
        for order in orders:
            await ground.send(order, Command.PAYMENT_CHARGE)
        await eventually(lambda: alerts(ground, "payment-provider"))
        await world.behave(error_after_rate=0)
        await eventually(lambda: confirmed(ground, orders))
        await eventually(lambda: alerts(ground))
    assert [await ground.depth(queue) for queue in (DEAD_LETTERS, POISON)] == [0, 0]
    assert [await world.captured_minor(order.order_id) for order in orders] == [order.total for order in orders]
