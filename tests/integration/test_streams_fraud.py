"""Fraud looks back on real rows, fires once for an order, and asks for a cancellation by the outbox."""

from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest

from adapters.settings import Settings
from orders.commands import command_id
from orders.ids import new_id
from orders.names import Command, State
from orders.order import Address, Order
from streams.fraud import Fraud
from tests.integration.streams_making import (
    database,
    facts,
    following,
    journey,
    named,
    own_topic,
    positions,
    publish,
    rows,
)
from tests.making import NOW, eventually, unplaced


@pytest.fixture(scope="module")
def own(stack: Settings) -> Iterator[Settings]:
    yield from database(stack)


def _order(customer: str, minutes: float, **values: object) -> Order:
    at = NOW + timedelta(minutes=minutes)
    card = f"pm_sim_{customer}"
    return unplaced(at, **{"customer_id": customer, "payment_method_id": card, "placed_at": at, **values})


async def _judged(
    own: Settings, orders: list[Order], state: State = State.PLACED, time_scale: float = 1.0
) -> dict[str, list[str]]:
    """Which rules fired for these orders, placed one after the other."""
    topic = await own_topic(own)
    group = Fraud(topic=topic, name=named("fraud"), time_scale=time_scale)
    journeys = [journey(state, order.placed_at, order) for order in orders]

    async def done() -> None:
        assert await positions(own, group) == {changes[-1].order.order_id: changes[-1].order.position for changes in journeys}

    async with following(own, group):
        for changes in journeys:
            await publish(own, facts(changes, topic))
        await publish(own, [row for changes in journeys for row in facts(changes, topic)])
        await eventually(done)
    ids = [order.order_id for order in orders]
    found = await rows(own, "SELECT order_id, rules FROM fraud_flags WHERE order_id = ANY ($1::text[])", ids)
    return {row["order_id"]: row["rules"] for row in found}


async def test_the_sixth_order_by_one_card_within_ten_minutes_is_cancelled_once(own: Settings) -> None:
    card = new_id("evt")
    orders = [_order(new_id("cus"), n, payment_method_id=card) for n in range(6)]
    assert await _judged(own, orders) == {orders[5].order_id: ["velocity"]}
    (row,) = await rows(own, "SELECT * FROM outbox WHERE aggregate_id = $1", orders[5].order_id)
    assert (row["type"], row["broker"], row["priority"]) == ("order.cancel", "rabbitmq", 4)
    assert row["event_id"] == command_id(orders[5].order_id, 1, Command.ORDER_CANCEL, "velocity")
    assert msgspec.json.decode(row["body"]) == {
        "order_id": orders[5].order_id, "position": 1, "reason": "fraud", "rule": "velocity",
    }  # fmt: skip


async def test_six_orders_by_one_card_over_an_hour_are_no_fraud(own: Settings) -> None:
    card = new_id("evt")
    assert await _judged(own, [_order(new_id("cus"), n * 10, payment_method_id=card) for n in range(6)]) == {}


async def test_the_window_is_business_time(own: Settings) -> None:
    card = new_id("evt")
    orders = [_order(new_id("cus"), n, payment_method_id=card) for n in range(6)]
    assert await _judged(own, orders, time_scale=60) == {}


async def test_the_provider_s_test_card_is_everybody_s(own: Settings) -> None:
    orders = [_order(new_id("cus"), n / 10, payment_method_id="pm_card_visa") for n in range(8)]
    assert await _judged(own, orders) == {}


async def test_an_order_far_above_a_customer_s_habit_is_cancelled(own: Settings) -> None:
    customer = new_id("cus")
    assert await _judged(own, [_order(customer, n * 60) for n in range(3)], State.DELIVERED) == {}
    usual, large = _order(customer, 300, total=15_900, subtotal=15_600), _order(customer, 400, total=16_100, subtotal=15_800)
    assert await _judged(own, [usual]) == {}
    assert await _judged(own, [large]) == {large.order_id: ["unusual_amount"]}


async def test_an_order_from_a_place_out_of_reach_is_cancelled(own: Settings) -> None:
    customer, paris = new_id("cus"), Address("Rue X 1", "Paris", "75001", 48.86, 2.35)
    here, there, later = _order(customer, 0), _order(customer, 30, address=paris), _order(customer, 600)
    assert await _judged(own, [here, there, later]) == {there.order_id: ["impossible_distance"]}
