"""The process as it is run: real adapters, a real provider over HTTP, and a refusal to start where something is missing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest

from adapters.settings import Settings
from adapters.topology_declared import TopologyError
from orders.lifecycle import Action
from orders.names import DEAD_LETTERS, Command, Money, Queue, State
from outbox.transition import apply
from tests.integration.payment_provider import KEY, ProviderProcess
from tests.integration.workers_ground import NAME, Ground, ground
from tests.making import REPOSITORY, change_of, eventually, placed
from workers.__main__ import run

__all__ = ["ground"]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderProcess]:
    process = ProviderProcess(tmp_path_factory.mktemp("provider") / "ledger.jsonl")
    yield process
    process.kill()


@asynccontextmanager
async def _running(settings: Settings, *queues: Queue) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, queues or list(Queue), stop))
    try:
        yield
        assert not task.done(), task
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def test_a_queue_that_is_missing_is_named_at_the_start(ground: Ground, stack: Settings) -> None:
    base = stack.rabbitmq_management_url.rstrip("/") + "/api/"
    async with aiohttp.ClientSession(base) as session, session.delete(f"queues/{NAME}/drivers") as answer:
        assert answer.status == 204
    with pytest.raises(TopologyError, match="rabbitmq queue drivers"):
        await run(ground.settings, list(Queue), asyncio.Event())


async def test_a_provider_that_nobody_serves_leaves_the_order_in_its_queue(ground: Ground) -> None:
    order = await placed(ground.pool)
    await ground.send(order, Command.PAYMENT_CHARGE)

    async def paused() -> None:
        assert await ground.consumers(Queue.PAYMENTS) == 0
        assert await ground.depth(Queue.PAYMENTS) == 1

    settings = msgspec.structs.replace(ground.settings, time_scale=6_000.0, stripe_api_base="http://127.0.0.1:1")
    async with _running(settings, Queue.PAYMENTS):
        await eventually(paused)
    assert (await ground.order(order.order_id)).state is State.PLACED
    assert await ground.depth(DEAD_LETTERS) == 0


@pytest.mark.parametrize(
    ("card", "state", "money"),
    [
        ("pm_card_visa", State.PAYMENT_CONFIRMED, Money.CAPTURED),
        ("pm_card_visa_chargeDeclined", State.PAYMENT_FAILED, Money.NONE),
        ("pm_card_chargeDeclinedProcessingError", State.PAYMENT_FAILED, Money.NONE),
    ],
)
async def test_a_real_charge_over_http_ends_as_the_card_decides(
    ground: Ground, provider: ProviderProcess, card: str, state: State, money: Money
) -> None:
    order = await placed(ground.pool, payment_method_id=card)
    await ground.send(order, Command.PAYMENT_CHARGE)

    async def decided() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.money) == (state, money)

    settings = msgspec.structs.replace(ground.settings, stripe_api_base=provider.base, stripe_api_key=KEY)
    async with _running(settings, Queue.PAYMENTS):
        await eventually(decided)
        if state is State.PAYMENT_FAILED:
            return
        cancelled = await apply(ground.pool, change_of(Action.CANCEL, await ground.order(order.order_id)))
        await ground.send(cancelled, Command.PAYMENT_REFUND)

        async def refunded() -> None:
            now = await ground.order(order.order_id)
            assert (now.money, now.refunded) == (Money.REFUNDED, order.total)

        await eventually(refunded)


async def test_the_process_ends_cleanly_on_sigterm(ground: Ground) -> None:
    environ = {
        **os.environ,
        "RUSHLINE_HOME": os.devnull,
        "RUSHLINE_POSTGRES_DSN": ground.settings.postgres_dsn,
        "RUSHLINE_RABBITMQ_URL": ground.settings.rabbitmq_url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", "orders", cwd=REPOSITORY, env=environ, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    line = await asyncio.wait_for(process.stderr.readline(), 20)
    assert b"consuming" in line, line
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) == 0
