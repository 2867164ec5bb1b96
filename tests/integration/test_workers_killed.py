"""SIGKILL between every two steps of a retry and of a park, and a message that kills: real processes, real servers."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import msgspec
import pytest

from adapters.payments import ProviderUnavailable
from orders.commands import SCHEMA_VERSION
from orders.envelope import AMQP_PREFIX, Broker, OutboxRow, attributes
from orders.names import DEAD_LETTERS, POISON, Command, Queue, State
from orders.order import Order
from orders.parking import ATTEMPTS, CONSUMER, FAILURE, FIRST_FAILED_AT, LETTER, QUARANTINED_AT, REASON
from outbox.letters.ingest import Parked, ingest, letter_of
from outbox.letters.sending import replay_one
from tests.fake_ports import FakePorts
from tests.integration.deadly_worker import CHARGE, NOWHERE, STEPS, WORKS
from tests.integration.workers_ground import Ground, ground
from tests.making import REPOSITORY, eventually, placed
from workers.isolation import MOST_STARTS

__all__ = ["ground"]

TIER: Final = "orders.retry.1m"


@asynccontextmanager
async def _process(
    ground: Ground, what: str, order_id: str = "-", *, time_scale: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = {
        **os.environ,
        "RUSHLINE_HOME": os.devnull,
        "RUSHLINE_POSTGRES_DSN": ground.settings.postgres_dsn,
        "RUSHLINE_RABBITMQ_URL": ground.settings.rabbitmq_url,
        "RUSHLINE_TIME_SCALE": str(time_scale),
        "RUSHLINE_WORKER_CONCURRENCY": "16",
        "RUSHLINE_LOG_LEVEL": "error",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.deadly_worker", what, order_id, cwd=REPOSITORY, env=environ,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 20)


async def _killed(ground: Ground, what: str, order_id: str = "-", *, time_scale: float = 1.0) -> None:
    async with _process(ground, what, order_id, time_scale=time_scale) as process:
        assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL


async def _send_after(ground: Ground, order: Order, attempts: int) -> str:
    """The order's charge, as it comes back from its tier after so many attempts."""
    ((key, entry),) = order.pending.items()
    row = OutboxRow(
        event_id=key, aggregate_id=order.order_id, position=1, type="payment.charge", schema_version=SCHEMA_VERSION,
        body=msgspec.json.encode(entry.body), headers={ATTEMPTS: str(attempts)}, broker=Broker.RABBITMQ,
        destination="payment.charge", occurred_at=datetime.now(UTC),
    )  # fmt: skip
    await ground.publish("payment.charge", row.body, attributes(row, AMQP_PREFIX), 3, key)
    return key


async def _depths(ground: Ground, queues: Iterable[str] = (Queue.PAYMENTS, TIER, DEAD_LETTERS, POISON)) -> list[int]:
    return [await ground.depth(queue) for queue in queues]


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_killed_at_any_step_of_a_retry_leaves_one_effect_and_no_letter(ground: Ground, step: str) -> None:
    order = await placed(ground.pool)
    key = await ground.send(order, Command.PAYMENT_CHARGE)
    await _killed(ground, step, time_scale=1.0)

    async def somewhere() -> None:
        assert sum(await _depths(ground)) == (1 if step in ("before publish", "after ack") else 2)

    await eventually(somewhere)  # the copy has the same id; nothing was lost
    copies = [] if step == "before publish" else await ground.letters(TIER)
    for copy in copies:  # back from its tier at once
        await ground.publish(copy.routing_key, copy.body, copy.headers, copy.priority, key)
    fakes = FakePorts()

    async def confirmed() -> None:
        assert (await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED
        assert await _depths(ground) == [0, 0, 0, 0]

    async with ground.working(fakes, Queue.PAYMENTS):
        await eventually(confirmed)
    assert (await ground.order(order.order_id)).position == 3
    assert len(fakes.payments.named("confirm")) == 1
    assert await ground.done(key)
    assert not await ground.pool.fetchval("SELECT count(*) FROM started_commands WHERE message_key = $1", f"payments/{key}")


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_killed_at_any_step_of_a_park_leaves_one_letter_and_one_end(ground: Ground, step: str) -> None:
    order = await placed(ground.pool)
    key = await _send_after(ground, order, attempts=3)
    await _killed(ground, step)
    fakes = FakePorts()
    fakes.payments.always["create"] = ProviderUnavailable("away")

    async def ended() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.reason) == (State.PAYMENT_FAILED, "payment_timeout")
        assert [entry.type for entry in now.pending.values()] == ["payment.refund"]
        assert (await _depths(ground))[:2] == [0, 0]

    async with ground.working(fakes, Queue.PAYMENTS):
        await eventually(ended)
    letters = await ground.letters(DEAD_LETTERS)
    assert {letter.headers["cloudEvents_id"] for letter in letters} == {key}  # a copy is the same letter when it is recorded
    assert len(letters) == (2 if step == "after publish" else 1)
    assert await ground.depth(POISON) == 0
    assert (await ground.issued(order.order_id)).count("payment.failed") == 2  # a fact and its audit event: given up once


async def test_a_message_that_kills_is_quarantined_after_three_starts_and_its_neighbours_are_done(ground: Ground) -> None:
    orders = [await placed(ground.pool) for _ in range(16)]
    killer = orders[7]
    for order in orders:
        await ground.send(order, Command.PAYMENT_CHARGE)
    for _ in range(1 + MOST_STARTS):  # in company, then alone
        await _killed(ground, CHARGE, killer.order_id)

    async def settled() -> None:
        assert await _depths(ground) == [0, 0, 0, 1]
        states = {order.order_id: (await ground.order(order.order_id)).state for order in orders}
        assert states.pop(killer.order_id) is State.PAYMENT_FAILED
        assert set(states.values()) == {State.PAYMENT_CONFIRMED}

    async with _process(ground, CHARGE, killer.order_id, time_scale=1.0) as process:
        await eventually(settled)
        assert process.returncode is None
    (letter,) = await ground.letters(POISON)
    assert msgspec.json.decode(letter.body)["order_id"] == killer.order_id
    assert (letter.headers[REASON], letter.headers[FAILURE]) == ("kills-its-worker", "invalid_message")
    assert letter.headers[QUARANTINED_AT]
    keys = [f"payments/{key}" for order in orders for key in order.pending]
    assert not await ground.pool.fetchval("SELECT count(*) FROM started_commands WHERE message_key = ANY ($1)", keys)


@pytest.mark.parametrize("step", ["before ack", "after ack"])
async def test_a_worker_killed_at_the_end_of_a_replay_leaves_its_letter_resolved_and_one_effect(
    ground: Ground, step: str
) -> None:
    order = await placed(ground.pool)
    ((key, entry),) = order.pending.items()
    headers = {"cloudEvents_id": key, "cloudEvents_type": "payment.charge", "cloudEvents_subject": order.order_id,
               "cloudEvents_schemaversion": "1", CONSUMER: "payments", FAILURE: "payment_timeout"}  # fmt: skip
    parked = Parked(
        queue=DEAD_LETTERS, routing_key="payment.charge", headers=headers, body=msgspec.json.encode(entry.body), message_id=key,
        priority=2,
    )  # fmt: skip
    letter = letter_of(parked, datetime.now(UTC))
    await ingest(ground.pool, [letter])
    await replay_one(ground.pool, letter.letter_id, actor="ann", now=datetime.now(UTC))
    again = {**headers, LETTER: letter.letter_id}
    await ground.publish("payment.charge", parked.body, again, 3, key)
    await _killed(ground, step, WORKS)

    async def resolved() -> None:
        row = await ground.pool.fetchrow("SELECT state, resolution FROM dead_letters WHERE letter_id = $1", letter.letter_id)
        assert (row["state"], row["resolution"]) == ("resolved", "replayed")
        assert await _depths(ground) == [0, 0, 0, 0]

    fakes = FakePorts()
    async with ground.working(fakes, Queue.PAYMENTS):
        await eventually(resolved)
    now = await ground.order(order.order_id)
    assert (now.state, now.position) == (State.PAYMENT_CONFIRMED, 3)
    assert not fakes.payments.calls  # it was done before


async def test_what_comes_back_from_a_tier_is_as_it_was_sent_counted_and_not_early(ground: Ground) -> None:
    order = await placed(ground.pool)
    await ground.send(order, Command.PAYMENT_CHARGE)
    async with _process(ground, NOWHERE, time_scale=60.0):

        async def waiting() -> None:
            assert await ground.depth(TIER) == 1

        await eventually(waiting)

    async def back() -> None:
        assert await ground.depth(Queue.PAYMENTS) == 1

    await eventually(back)
    came = datetime.now(UTC)
    (message,) = await ground.letters(Queue.PAYMENTS)
    ((key, entry),) = order.pending.items()
    assert (message.routing_key, message.priority, msgspec.json.decode(message.body)) == ("payment.charge", 3, entry.body)
    assert (message.headers["cloudEvents_id"], message.headers["cloudEvents_type"]) == (key, "payment.charge")
    assert message.headers[ATTEMPTS] == "1"
    assert (came - datetime.fromisoformat(message.headers[FIRST_FAILED_AT])).total_seconds() >= 1.0  # a minute of theirs
