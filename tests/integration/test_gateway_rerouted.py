"""A customer who follows an order that goes to another restaurant sees where it went and what it costs."""

import asyncio
import json

import pytest

from orders.lifecycle import Action
from orders.rerouting import reroute
from outbox import alternatives
from outbox.transition import load
from tests.integration.gateway_world import World, gateway_settings, served, world

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_whoever_follows_an_order_is_told_of_its_new_restaurant_and_total(world: World) -> None:
    order_id = await world.paid()
    await world.http.post(f"/v1/restaurant/orders/{order_id}/reject", json={"reason": "too_busy"}, headers=world.as_restaurant)
    order, _ = await load(world.pool, order_id)
    found = await alternatives.find(world.pool, order, world.clock())
    assert found is not None
    wish = reroute(order, found.restaurant_id, found.items, found.amounts, "restaurant_rejected")
    await world.do(order_id, Action.REROUTE, changes=wish.changes, data=wish.data, reason=wish.reason)
    await world.do(order_id, Action.CANCEL, reason="tests")
    await world.pool.execute(
        "UPDATE orders SET pending = '{}', deadline = NULL, deadline_at = NULL WHERE order_id = $1", order_id
    )
    stop = asyncio.Event()
    running = asyncio.create_task(world.watch.run(stop))
    answer = await asyncio.wait_for(world.http.get(f"/v1/orders/{order_id}/events", headers=world.as_customer), 5)
    stop.set()
    await running
    told = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: {")]
    (moved,) = [event for event in told if event["type"] == "order.rerouted"]
    assert (moved["restaurant_id"], moved["status"]) == (world.other_restaurant, "payment_confirmed")
    assert moved["total"] == {"amount_minor": 2 * 900 + 250 + 250, "currency": "EUR"}
    assert all("restaurant_id" not in event for event in told if event is not moved)
