"""The only place where an order begins: key, hours, prices, order, events and commands in one transaction."""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from adapters.postgres import Record
from gateway import sql
from gateway.answers import Money, OrderWarning, PlacedOrder
from gateway.context import Gateway
from gateway.idempotency import KeyInFlight, fingerprint, stored_answer
from gateway.menu import UnknownRestaurant, lines_for
from gateway.problems import Refused
from gateway.schemas import PlaceOrder
from orders.chain import GENESIS
from orders.decide import Cause, Wish, decide
from orders.hours import Opening, opening
from orders.ids import new_id
from orders.lifecycle import Action
from orders.money import price
from orders.names import State
from orders.order import Address, Order
from orders.privacy import PersonalKey, new_key
from outbox.transition import Request, RequestAnswered, RequestUnderWay
from outbox.transition import place as place_order

_JSON: Final = msgspec.json.Encoder()


class RestaurantClosed(Refused):
    """Orders are taken during opening hours only. `opens_at` says when they begin, where that is within a week."""

    slug = "restaurant-closed"


async def place(gateway: Gateway, key: str, body: PlaceOrder, cause: Cause) -> bytes:
    """The answer to this request, now or as it was given before under the same key.

    Raises `KeyInFlight`, `KeyReused`, `RestaurantClosed`, `UnknownRestaurant`, `ItemUnavailable`, `Invalid`,
    `DatabaseUnavailable`.
    """
    body_hash = fingerprint(body)
    try:
        return await _place(gateway, key, body_hash, body, cause)
    except RequestAnswered:  # between our look and our write
        return await _place(gateway, key, body_hash, body, cause)
    except RequestUnderWay as error:
        raise KeyInFlight("the first request with this key is under way") from error


async def _place(gateway: Gateway, key: str, body_hash: str, body: PlaceOrder, cause: Cause) -> bytes:
    """Two round trips: what there is to know, and the order together with its answer."""
    item_ids = [item.item_id for item in body.items]
    row = await gateway.row(sql.BEGIN_PLACING, cause.actor.id, key, body.restaurant_id, item_ids)
    assert row is not None
    if answer := stored_answer(row, body_hash):
        return answer
    now = gateway.now()
    order, warnings = _new_order(row, body, cause, now, timedelta(seconds=gateway.settings.closing_soon_s))
    known = PersonalKey(row["key_id"], row["personal_key"]) if row["key_id"] else None
    personal_key, data = known or new_key(), _data(order)
    wish = Wish(action=Action.PLACE, data=data, private={"address": data["address"]}, key=personal_key)
    change = decide(order, wish, cause, now, gateway.wait)
    answer = _JSON.encode(_answer(order, warnings))
    request = Request(
        customer_id=cause.actor.id, key=key, body_hash=body_hash, answer=answer, new_key=None if known else personal_key
    )
    async with gateway.connection("the order cannot be placed") as conn:
        await place_order(conn, change, request)
    return answer


def _new_order(row: Record, body: PlaceOrder, cause: Cause, now: datetime, soon: timedelta) -> tuple[Order, list[OrderWarning]]:
    """The order at position 0. Raises what `place` raises about its contents."""
    if row["city"] is None:
        raise UnknownRestaurant
    found = opening(row["hours"], row["time_zone"], now)
    if not found.is_open:
        raise closed(row["name"], found)
    amounts = price(lines := lines_for(body.items, row["menu"] or ()), row["delivery_fee"], row["currency"])
    at = body.delivery_address
    order = Order(
        order_id=new_id("ord", int(now.timestamp() * 1000)), customer_id=cause.actor.id, restaurant_id=body.restaurant_id,
        city=row["city"], state=State.PLACED, chain_head=GENESIS, items=lines,
        address=Address(at.street, at.city, at.postal_code, at.latitude, at.longitude), currency=amounts.currency,
        item_count=amounts.item_count, subtotal=amounts.subtotal, delivery_fee=amounts.delivery_fee, total=amounts.total,
        payment_method_id=body.payment_method_id, traceparent=cause.traceparent, placed_at=now, updated_at=now,
    )  # fmt: skip
    return order, _warnings(found, now, soon)


def closed(name: str, found: Opening) -> RestaurantClosed:
    """What is said of a closed restaurant, with its next opening."""
    when = f" and opens at {found.opens_at.isoformat()}" if found.opens_at else " for the week to come"
    return RestaurantClosed(f"{name} is closed{when}", opens_at=found.opens_at)


def _warnings(found: Opening, now: datetime, soon: timedelta) -> list[OrderWarning]:
    if found.closes_at is None or found.closes_at - now > soon:
        return []
    minutes = int((found.closes_at - now).total_seconds() // 60)
    text = f"The restaurant closes in {minutes} minutes and may refuse the order."
    return [OrderWarning(code="closing_soon", message=text, closes_at=found.closes_at)]


def _data(order: Order) -> dict[str, object]:
    return {
        "items": [msgspec.to_builtins(line) for line in order.items],
        "item_count": order.item_count,
        "subtotal": order.subtotal,
        "delivery_fee": order.delivery_fee,
        "total": order.total,
        "address": msgspec.to_builtins(order.address),
        "payment_method_id": order.payment_method_id,
    }


def _answer(order: Order, warnings: list[OrderWarning]) -> PlacedOrder:
    return PlacedOrder(
        order_id=order.order_id,
        status="placed",
        item_count=order.item_count,
        subtotal=Money(order.subtotal, order.currency),
        delivery_fee=Money(order.delivery_fee, order.currency),
        total=Money(order.total, order.currency),
        warnings=warnings,
    )
