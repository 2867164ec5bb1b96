"""What restaurants, drivers and customers do to an order over HTTP."""

import json
from typing import Any

import pytest

from orders.ids import new_id
from orders.lifecycle import Action
from tests.integration.gateway_world import World, gateway_settings, served, world

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _post(world: World, path: str, who: dict[str, str], body: Any = None) -> tuple[int, dict[str, Any]]:
    answer = (
        await world.http.post(path, headers=who, json=body) if body is not None else await world.http.post(path, headers=who)
    )
    return answer.status_code, answer.json()


async def test_an_order_goes_from_the_restaurant_to_the_driver_to_the_customer(world: World) -> None:
    order_id = await world.assigned()
    carried = (await world.http.get("/v1/driver/orders", headers=world.as_driver)).json()["orders"]
    assert [o["order_id"] for o in carried] == [order_id]
    assert carried[0]["restaurant"]["restaurant_id"] == world.restaurant
    for verb, status in (("pick-up", "picked_up"), ("deliver", "delivered")):
        for _ in range(2):
            code, body = await _post(world, f"/v1/driver/orders/{order_id}/{verb}", world.as_driver)
            assert (code, body["status"]) == (200, status)
    assert (await world.http.get("/v1/driver/orders", headers=world.as_driver)).json() == {"orders": []}
    again = await world.http.post(f"/v1/restaurant/orders/{order_id}/accept", headers=world.as_restaurant)
    assert (again.status_code, again.json()["status"]) == (200, "delivered")


async def test_nobody_touches_or_sees_the_order_of_another(world: World) -> None:
    order_id = await world.assigned()
    strangers = {
        "customer": world.token("customer", new_id("cus")),
        "restaurant": world.token("restaurant", world.other_restaurant),
        "driver": world.token("driver", new_id("drv")),
    }
    for method, path, role, body in (
        ("GET", f"/v1/orders/{order_id}", "customer", None),
        ("GET", f"/v1/orders/{order_id}/events", "customer", None),
        ("POST", f"/v1/orders/{order_id}/cancel", "customer", {}),
        ("POST", f"/v1/orders/{order_id}/resolution", "customer", {"choice": "cancel"}),
        ("POST", f"/v1/restaurant/orders/{order_id}/accept", "restaurant", None),
        ("POST", f"/v1/restaurant/orders/{order_id}/reject", "restaurant", {"reason": "x"}),
        ("POST", f"/v1/driver/orders/{order_id}/pick-up", "driver", None),
        ("POST", f"/v1/driver/orders/{order_id}/deliver", "driver", None),
        ("POST", f"/v1/driver/orders/{order_id}/release", "driver", {}),
    ):
        answer = await world.http.request(method, path, headers=strangers[role], json=body)
        unknown = await world.http.request(method, path.replace(order_id, new_id("ord")), headers=strangers[role], json=body)
        assert answer.status_code == unknown.status_code == 404, (path, answer.text)
        assert answer.json()["type"] == unknown.json()["type"]
        wrong = "driver" if role != "driver" else "customer"
        assert (await world.http.request(method, path, headers=strangers[wrong], json=body)).status_code == 403
        assert (await world.http.request(method, path, json=body)).status_code == 401
    assert (await world.http.get("/v1/orders", headers=strangers["customer"])).json()["orders"] == []
    assert (await world.http.get("/v1/restaurant/orders", headers=strangers["restaurant"])).json()["orders"] == []


async def test_a_customer_cancels_once_and_later_asks_again(world: World) -> None:
    order_id = await world.paid()
    for body in ({"reason": "fraud"}, None):
        code, order = await _post(world, f"/v1/orders/{order_id}/cancel", world.as_customer, body)
        assert (code, order["status"], order["reason"]) == (200, "cancelled", "customer_request")


async def test_an_order_that_is_picked_up_can_no_longer_be_cancelled(world: World) -> None:
    order_id = await world.assigned()
    await _post(world, f"/v1/driver/orders/{order_id}/pick-up", world.as_driver)
    code, problem = await _post(world, f"/v1/orders/{order_id}/cancel", world.as_customer, {})
    assert (code, problem["type"].rpartition("/")[2]) == (409, "action-not-allowed")


async def test_a_restaurant_that_closes_rejects_and_the_order_is_to_be_cancelled(world: World) -> None:
    order_id = await world.paid()
    code, order = await _post(
        world,
        f"/v1/restaurant/orders/{order_id}/reject",
        world.as_restaurant,
        {"reason": "closing_time", "unavailable_items": []},
    )
    assert (code, order["status"]) == (200, "restaurant_rejected")
    audit = await world.pool.fetchval(
        "SELECT audit FROM order_events WHERE order_id = $1 AND type = 'restaurant.rejected'", order_id
    )
    assert json.loads(audit)["details"] == {"auto_rejected_closing_time": True}
    body = await world.pool.fetchval("SELECT body FROM outbox WHERE aggregate_id = $1 AND type = 'order.cancel'", order_id)
    assert json.loads(body)["reason"] == "closing_time"  # nobody else is asked: it is late


async def _without_pizza(world: World) -> str:
    order_id = await world.paid()
    code, order = await _post(
        world,
        f"/v1/restaurant/orders/{order_id}/reject",
        world.as_restaurant,
        {"reason": "sold_out", "unavailable_items": ["itm_pizza"]},
    )
    assert (code, order["status"]) == (200, "restaurant_rejected")
    return order_id


async def test_a_customer_is_asked_about_unavailable_items_and_takes_substitutes_for_less(world: World) -> None:
    order_id = await _without_pizza(world)
    seen = (await world.http.get(f"/v1/orders/{order_id}", headers=world.as_customer)).json()
    asked = seen["decision"]
    assert asked["unavailable_items"] == ["itm_pizza"]
    assert asked["until"] > seen["updated_at"]
    # Neither what is sold out or ordered already, nor what costs more than the two pizzas did.
    assert [(item["item_id"], item["unit_price"]["amount_minor"]) for item in asked["substitutes"]] == [("itm_water", 200)]
    assert (asked["alternative"]["restaurant_id"], asked["alternative"]["total"]["amount_minor"]) == (
        world.other_restaurant,
        2 * 900 + 250 + 250,
    )
    choice = {"choice": "substitute", "substitutes": [{"item_id": "itm_water", "quantity": 2}]}
    code, order = await _post(world, f"/v1/orders/{order_id}/resolution", world.as_customer, choice)
    assert code == 200, order
    assert order["status"] == "payment_confirmed"
    assert [line["item_id"] for line in order["items"]] == ["itm_cola", "itm_water"]
    assert order["total"]["amount_minor"] == 950
    refund = await world.pool.fetchval("SELECT body FROM outbox WHERE aggregate_id = $1 AND type = 'payment.refund'", order_id)
    assert (json.loads(refund)["reason"], json.loads(refund)["amount"]) == ("price_difference", 1600)
    code, problem = await _post(world, f"/v1/orders/{order_id}/resolution", world.as_customer, choice)
    assert (code, problem["type"].rpartition("/")[2]) == (409, "action-not-allowed")


async def test_substitutes_cannot_cost_more_than_was_paid_nor_be_what_is_missing(world: World) -> None:
    order_id = await _without_pizza(world)
    for substitutes, slug, field in (
        ([{"item_id": "itm_truffle", "quantity": 1}], "too-expensive", "substitutes"),
        ([{"item_id": "itm_pizza", "quantity": 1}], "invalid", "substitutes[0].item_id"),
        ([{"item_id": "itm_soup", "quantity": 1}], "item-unavailable", "substitutes[0].item_id"),
        ([{"item_id": "itm_none", "quantity": 1}], "item-unavailable", "substitutes[0].item_id"),
    ):
        choice = {"choice": "substitute", "substitutes": substitutes}
        code, problem = await _post(world, f"/v1/orders/{order_id}/resolution", world.as_customer, choice)
        assert (code, problem["type"].rpartition("/")[2], problem["errors"][0]["field"]) == (422, slug, field), problem


async def test_another_restaurant_of_the_city_takes_the_order_for_less(world: World) -> None:
    order_id = await _without_pizza(world)
    code, order = await _post(world, f"/v1/orders/{order_id}/resolution", world.as_customer, {"choice": "alternative"})
    assert code == 200, order
    assert order["restaurant_id"] == world.other_restaurant
    assert order["total"]["amount_minor"] == 2 * 900 + 250 + 250
    gone = await world.http.post(f"/v1/restaurant/orders/{order_id}/accept", headers=world.as_restaurant)
    assert gone.status_code == 404
    again = {"reason": "sold_out", "unavailable_items": ["itm_pizza"]}  # its answer may have been lost
    code, _ = await _post(world, f"/v1/restaurant/orders/{order_id}/reject", world.as_restaurant, again)
    assert code == 200
    refused = await world.http.post(
        f"/v1/restaurant/orders/{order_id}/reject",
        json={"reason": "sold_out", "unavailable_items": ["itm_cola"]},
        headers=world.token("restaurant", world.other_restaurant),
    )
    assert refused.status_code == 200
    seen = (await world.http.get(f"/v1/orders/{order_id}", headers=world.as_customer)).json()
    assert seen["decision"]["alternative"] is None
    code, problem = await _post(
        world, f"/v1/orders/{order_id}/resolution", world.as_customer,
        {"choice": "alternative", "restaurant_id": world.restaurant},
    )  # fmt: skip
    assert (code, problem["errors"][0]["field"]) == (422, "restaurant_id")  # it has had the order


async def test_without_another_restaurant_the_customer_is_told_so_and_cancels(world: World) -> None:
    order_id = await _without_pizza(world)
    await world.pool.execute("UPDATE restaurants SET hours = '{}' WHERE restaurant_id = $1", world.other_restaurant)
    code, problem = await _post(world, f"/v1/orders/{order_id}/resolution", world.as_customer, {"choice": "alternative"})
    assert (code, problem["type"].rpartition("/")[2]) == (409, "no-alternative")
    named = {"choice": "alternative", "restaurant_id": world.other_restaurant}
    code, problem = await _post(world, f"/v1/orders/{order_id}/resolution", world.as_customer, named)
    assert (code, problem["type"].rpartition("/")[2]) == (409, "restaurant-closed")
    code, order = await _post(world, f"/v1/orders/{order_id}/resolution", world.as_customer, {"choice": "cancel"})
    assert (code, order["status"], order["reason"]) == (200, "cancelled", "item_unavailable")


async def test_a_driver_gives_the_order_back_once_and_stays_free(world: World) -> None:
    order_id = await world.assigned()
    for _ in range(2):
        code, body = await _post(world, f"/v1/driver/orders/{order_id}/release", world.as_driver, {"reason": "flat tyre"})
        assert (code, body["status"]) == (200, "restaurant_accepted")
    status = await world.http.put(
        "/v1/driver/status", json={"status": "offline", "latitude": 1, "longitude": 2}, headers=world.as_driver
    )
    assert (status.status_code, status.json()) == (200, {"status": "offline", "assignment": None})


async def test_a_busy_driver_cannot_go_offline_and_publishes_where_they_are(world: World) -> None:
    order_id = await world.assigned()
    at = {"latitude": 52.6, "longitude": 13.5}
    offline = await world.http.put("/v1/driver/status", json={"status": "offline", **at}, headers=world.as_driver)
    assert (offline.status_code, offline.json()["order_id"]) == (409, order_id)
    here = await world.http.put("/v1/driver/location", json=at, headers=world.as_driver)
    assert here.json()["assignment"]["order_id"] == order_id
    row = await world.pool.fetchrow(
        "SELECT * FROM outbox WHERE aggregate_id = $1 AND type = 'driver.location_update'", order_id
    )
    assert row is not None
    assert row["position"] is None
    assert json.loads(row["body"])["data"] == {"driver_id": world.driver, **at}


async def test_a_free_driver_publishes_nothing(world: World) -> None:
    here = await world.http.put("/v1/driver/location", json={"latitude": 52.6, "longitude": 13.5}, headers=world.as_driver)
    assert here.json() == {"status": "available", "assignment": None}
    assert await world.count("SELECT count(*) FROM outbox WHERE body LIKE '%' || $1::bytea || '%'", world.driver.encode()) == 0
    spot = await world.pool.fetchval("SELECT spot ~= spot_of(52.6, 13.5) FROM drivers WHERE driver_id = $1", world.driver)
    assert spot


async def test_restaurants_change_their_hours_and_menu(world: World) -> None:
    hours = {"hours": {"monday": [["18:00", "02:00"]]}, "time_zone": "America/New_York"}
    put = await world.http.put("/v1/restaurant/hours", json=hours, headers=world.as_restaurant)
    assert (put.status_code, put.json()["time_zone"], put.json()["hours"]["monday"]) == (
        200,
        "America/New_York",
        [["18:00", "02:00"]],
    )
    items = [{"item_id": "itm_new", "name": "Ravioli", "unit_price": {"amount_minor": 1200, "currency": "EUR"}}]
    menu = await world.http.put("/v1/restaurant/menu", json={"items": items}, headers=world.as_restaurant)
    assert menu.status_code == 200, menu.text
    seen = await world.http.get(f"/v1/restaurants/{world.restaurant}/menu", headers=world.as_customer)
    assert seen.json()["items"] == [{**items[0], "available": True}]


async def test_listings_are_paged_without_gaps(world: World) -> None:
    placed = [await world.placed() for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = (
            await world.http.get(
                "/v1/orders", params={"limit": 2} | ({"cursor": cursor} if cursor else {}), headers=world.as_customer
            )
        ).json()
        seen += [o["order_id"] for o in page["orders"]]
        if not (cursor := page["next_cursor"]):
            break
    assert seen == placed[::-1]
    city = await world.http.get("/v1/restaurants", params={"city": world.city}, headers=world.as_customer)
    assert [r["restaurant_id"] for r in city.json()["restaurants"]] == sorted([world.restaurant, world.other_restaurant])
    listed = await world.http.get("/v1/restaurant/orders", params={"state": "placed"}, headers=world.as_restaurant)
    assert len(listed.json()["orders"]) == 5


async def test_a_restaurant_hears_of_items_that_it_does_not_have_in_the_order(world: World) -> None:
    order_id = await world.paid()
    await world.do(order_id, Action.NOTIFY_RESTAURANT)
    body = {"reason": "sold_out", "unavailable_items": ["itm_cola", "itm_nowhere"]}
    code, problem = await _post(world, f"/v1/restaurant/orders/{order_id}/reject", world.as_restaurant, body)
    assert (code, problem["errors"][0]["field"]) == (422, "unavailable_items[1]")
