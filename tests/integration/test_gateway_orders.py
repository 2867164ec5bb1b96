"""Placing an order, and what a key does."""

import asyncio
import secrets
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.integration.gateway_world import World, gateway_settings, served, world

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_order_is_priced_from_the_menu_and_stored_with_its_fact_and_its_command(world: World) -> None:
    answer = await world.place()
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body == {
        "order_id": body["order_id"],
        "status": "placed",
        "item_count": 3,
        "subtotal": {"amount_minor": 2250, "currency": "EUR"},
        "delivery_fee": {"amount_minor": 300, "currency": "EUR"},
        "total": {"amount_minor": 2550, "currency": "EUR"},
        "warnings": [],
    }
    rows = await world.pool.fetch(
        "SELECT type, broker FROM outbox WHERE aggregate_id = $1 ORDER BY broker, id", body["order_id"]
    )
    assert [tuple(r) for r in rows] == [("order.placed", "kafka"), ("order.placed", "kafka"), ("payment.charge", "rabbitmq")]


async def test_twenty_identical_requests_at_once_make_one_order(world: World) -> None:
    key = secrets.token_hex(8)
    answers = await asyncio.gather(*(world.place(key) for _ in range(20)))
    assert {a.status_code for a in answers} <= {201, 409}
    assert len({a.content for a in answers if a.status_code == 201}) == 1
    assert await world.count("SELECT count(*) FROM orders WHERE customer_id = $1", world.customer) == 1
    for refused in (a for a in answers if a.status_code == 409):
        assert refused.json()["type"].endswith("/idempotency-in-flight")
        assert refused.headers["retry-after"] == "1"


async def test_a_repeat_gets_the_stored_answer_byte_for_byte_however_it_is_spelled(world: World) -> None:
    first, second = await world.place("one"), await world.place("one")
    headers = {**world.as_customer, "Idempotency-Key": "one", "Content-Type": "application/json"}
    third = await world.http.post("/v1/orders", content=str(world.order()).replace("'", '"'), headers=headers)
    assert first.status_code == second.status_code == third.status_code == 201, third.text
    assert first.content == second.content == third.content


async def test_a_key_that_is_used_for_another_body_is_refused(world: World) -> None:
    await world.place("two")
    other = await world.place("two", payment_method_id="pm_card_mastercard")
    assert other.status_code == 422
    assert other.json()["type"].endswith("/idempotency-key-reused")


async def test_the_same_key_of_another_customer_is_another_key(world: World) -> None:
    first = await world.place("three")
    headers = {**world.token("customer", "cus_other"), "Idempotency-Key": '"three"'}
    second = await world.http.post("/v1/orders", json=world.order(), headers=headers)
    assert second.status_code == 201
    assert first.json()["order_id"] != second.json()["order_id"]


@pytest.mark.parametrize(
    "key", [None, b"", b'""', b'"a', b"a b", "ключ".encode(), b'"' + b"a" * 256 + b'"', b"@12", b"(1 2)", b"?1"]
)
async def test_a_request_without_a_usable_key_is_refused(world: World, key: bytes | None) -> None:
    headers: Any = world.as_customer if key is None else {**world.as_customer, "Idempotency-Key": key}
    answer = await world.http.post("/v1/orders", json=world.order(), headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"].rpartition("/")[2] in {"idempotency-key-missing", "idempotency-key-malformed"}


async def test_lines_of_the_same_item_are_made_one(world: World) -> None:
    answer = await world.place(items=[{"item_id": "itm_cola", "quantity": 2}, {"item_id": "itm_cola", "quantity": 3}])
    assert answer.json()["item_count"] == 5
    order = await world.http.get(f"/v1/orders/{answer.json()['order_id']}", headers=world.as_customer)
    assert [line["quantity"] for line in order.json()["items"]] == [5]


async def test_a_closed_restaurant_refuses_and_says_when_it_opens(world: World) -> None:
    await world.pool.execute(
        "UPDATE restaurants SET hours = $2 WHERE restaurant_id = $1", world.restaurant, {"friday": [["18:00", "02:00"]]}
    )
    world.at[:] = [datetime(2026, 6, 12, 15, 59, tzinfo=UTC)]  # 17:59 in Berlin
    answer = await world.place()
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "restaurant-closed")
    assert answer.json()["opens_at"] == "2026-06-12T16:00:00Z"
    world.at[:] = [datetime(2026, 6, 12, 16, 0, tzinfo=UTC)]
    assert (await world.place()).json()["warnings"] == []


async def test_an_order_shortly_before_closing_is_accepted_with_a_warning_that_a_repeat_shows_too(world: World) -> None:
    await world.pool.execute(
        "UPDATE restaurants SET hours = $2 WHERE restaurant_id = $1", world.restaurant, {"friday": [["18:00", "02:00"]]}
    )
    world.at[:] = [datetime(2026, 6, 12, 23, 45, tzinfo=UTC)]  # 01:45 in Berlin
    answer = await world.place("late")
    warning = answer.json()["warnings"][0]
    assert (answer.status_code, warning["code"], warning["closes_at"]) == (201, "closing_soon", "2026-06-13T00:00:00Z")
    world.at[:] = [datetime(2026, 6, 13, 0, 30, tzinfo=UTC)]  # closed by now
    assert (await world.place("late")).content == answer.content
    assert (await world.place("later")).status_code == 409


async def test_a_request_that_was_refused_may_be_put_right_under_its_key(world: World) -> None:
    assert (await world.place("again", restaurant_id="rst_none")).status_code == 422
    assert (await world.place("again")).status_code == 201


async def test_a_caller_cannot_pose_as_a_command(world: World) -> None:
    order_id = await world.paid()
    pending = await world.pool.fetchval("SELECT pending FROM orders WHERE order_id = $1", order_id)
    headers = {**world.as_customer, "X-Request-Id": next(iter(pending))}
    await world.http.post(f"/v1/orders/{order_id}/cancel", headers=headers)
    cause = await world.pool.fetchval(
        "SELECT headers FROM order_events WHERE order_id = $1 AND type = 'order.cancelled'", order_id
    )
    assert cause["causationid"] == f"req_{next(iter(pending))}"
