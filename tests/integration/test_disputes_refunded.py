"""What a dispute gives back goes through the real queue and a worker, once each, and never above what was taken."""

from datetime import UTC, datetime

import pytest

from orders.decide import Cause
from orders.disputes import DisputeKind, RefundAboveRest
from orders.facts import Actor
from orders.names import Money, Role, State
from orders.order import Order
from outbox import disputes
from outbox.transition import apply, waits
from tests.integration.city import City
from tests.integration.workers_ground import Ground, ground
from tests.making import WAY_TO, change_of, empty, eventually

__all__ = ["ground"]
LONG = 600_000


@pytest.fixture(autouse=True)
async def _fresh(ground: Ground) -> None:
    await empty(ground.settings)


def _sue(number: int) -> Cause:
    return Cause(id=f"req_sue_{number}", actor=Actor(Role.SUPPORT, "sue"), service="gateway")


async def _refunded(ground: Ground, order: Order, number: int, kind: DisputeKind, amount: int | None) -> None:
    wait, now = waits(ground.settings), datetime.now(UTC)
    opened = await disputes.open_dispute(ground.pool, order.order_id, kind, "x", _sue(number), wait, now)
    await disputes.refund(ground.pool, opened.dispute_id, amount, "plausible", _sue(number + 1), wait, now)


async def test_two_disputes_give_back_their_parts_and_a_third_only_what_is_left(ground: Ground) -> None:
    city = City(ground, restaurant_answer_s=LONG)
    restaurant = await city.restaurant()

    async def in_state(state: State) -> None:
        assert (await ground.order(order.order_id)).state is state

    async def money(refunded: int, what: Money) -> None:
        now = await ground.order(order.order_id)
        assert (now.refunded, now.money, now.pending) == (refunded, what, {})

    async with city.awake():
        order = await city.order(restaurant)
        await eventually(lambda: in_state(State.RESTAURANT_NOTIFIED))
        for action in WAY_TO[State.DELIVERED][3:]:
            await apply(ground.pool, change_of(action, await ground.order(order.order_id)))
        await eventually(lambda: money(0, Money.CAPTURED))
        await _refunded(ground, order, 1, DisputeKind.LATE, None)
        await eventually(lambda: money(300, Money.PART_REFUNDED))
        await _refunded(ground, order, 3, DisputeKind.ITEMS, 1_000)
        await eventually(lambda: money(1_300, Money.PART_REFUNDED))
        await _refunded(ground, order, 5, DisputeKind.NEVER_ARRIVED, None)
        await eventually(lambda: money(order.total, Money.REFUNDED))
        with pytest.raises(RefundAboveRest):
            await _refunded(ground, order, 7, DisputeKind.OTHER, None)
    assert sorted(refund.amount_minor for refund in city.fakes.payments.refunds.values()) == [300, 1_000, 1_900]
