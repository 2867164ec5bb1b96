"""`order.wake` reaches the fact that a stream holds, through the tiers and a worker, whether or not its order exists."""

from datetime import UTC, datetime

import msgspec
import pytest

from orders.commands import WakeOrder, command_id
from orders.decide import command_row
from orders.envelope import AMQP_PREFIX, TRACEPARENT, attributes
from orders.names import PRIORITY, Command, Queue
from orders.order import Pending
from tests.fake_ports import FakePorts
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually
from workers.held import HeldTable

__all__ = ["ground"]

_HELD = """
INSERT INTO held_facts (group_name, order_id, position, topic, partition, kafka_offset, headers, body, kind, reason, attempts,
                        wake_at, parked_at, skipped_at)
VALUES ('support', $1, $2, 'orders.events', 0, $3, '{}', '', $4, '', $5, now() + interval '1 hour', $6, $7)
"""
_WOKEN = "SELECT kafka_offset FROM held_facts WHERE wake_at <= now() ORDER BY kafka_offset"
NOBODY = "an order that no table knows"


@pytest.fixture(autouse=True)
async def _empty(ground: Ground) -> None:
    await ground.pool.execute("DELETE FROM held_facts")


async def _hold(ground: Ground, offset: int, *, position: int | None = 5, attempts: int = 2, **values: object) -> None:
    kind, parked, skipped = values.get("kind", "failed"), values.get("parked_at"), values.get("skipped_at")
    await ground.pool.execute(_HELD, NOBODY, position, offset, kind, attempts, parked, skipped)


async def _woken(ground: Ground) -> list[int]:
    return [row["kafka_offset"] for row in await ground.pool.fetch(_WOKEN)]


async def test_a_wake_up_makes_the_fact_due_that_failed_in_that_attempt_and_no_other(ground: Ground) -> None:
    moment = await ground.pool.fetchval("SELECT now()")
    await _hold(ground, 1)
    await _hold(ground, 2, position=6)
    await _hold(ground, 3, attempts=3)
    await _hold(ground, 4, kind="gap")
    await _hold(ground, 5, parked_at=moment)
    await _hold(ground, 6, skipped_at=moment)
    await HeldTable(ground.pool).wake("analytics", NOBODY, 5, 2)
    assert await _woken(ground) == []
    await HeldTable(ground.pool).wake("support", NOBODY, 5, 2)
    assert await _woken(ground) == [1]


async def test_a_fact_without_a_position_is_woken_too(ground: Ground) -> None:
    await _hold(ground, 1, position=None)
    await HeldTable(ground.pool).wake("support", NOBODY, 0, 2)
    assert await _woken(ground) == [1]


async def test_a_worker_wakes_a_fact_of_an_order_that_does_not_exist(ground: Ground) -> None:
    await _hold(ground, 1)
    fakes = FakePorts()
    fakes.held = HeldTable(ground.pool)
    body = WakeOrder(order_id=NOBODY, position=5, group="support", attempt=2)
    async with ground.working(fakes, Queue.ORDERS):
        await _publish(ground, body)

        async def woken() -> None:
            assert await _woken(ground) == [1]

        await eventually(woken)


async def _publish(ground: Ground, body: WakeOrder) -> None:
    row = command_row(
        command_id(body.order_id, body.position, Command.ORDER_WAKE), Pending(Command.ORDER_WAKE.value, msgspec.to_builtins(body)),
        PRIORITY[Command.ORDER_WAKE], {TRACEPARENT: ""}, datetime.now(UTC),
    )  # fmt: skip
    await ground.publish(row.destination, row.body, attributes(row, AMQP_PREFIX), row.priority, row.event_id)
