"""The routes of restaurants: their orders, their answers, their hours and menu."""

from functools import lru_cache
from typing import Annotated
from zoneinfo import available_timezones

import msgspec
from litestar import Router, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from gateway import sql
from gateway.actions import DoneBefore, step, theirs
from gateway.answers import HoursOf, Menu, RestaurantOrder, RestaurantOrders, for_restaurant
from gateway.auth import only
from gateway.bodies import Json
from gateway.catalogue import menu_of
from gateway.context import Gate, HttpRequest, orders_of
from gateway.docs import problems
from gateway.paging import Cursor, Limit, after_order, next_order
from gateway.schemas import PutHours, PutMenu, RejectOrder
from orders.decide import Wish
from orders.errors import Invalid, NotFound
from orders.lifecycle import Action
from orders.names import Fact, Role, State
from orders.order import Order
from orders.rerouting import CLOSING_TIME
from orders.said import RESTAURANT_WORDS, worded


@get("/orders", responses=problems())
async def list_restaurant_orders(
    request: HttpRequest,
    gateway: Gate,
    order_state: Annotated[State | None, QueryParameter(name="state", description="Orders in this state only.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> RestaurantOrders:
    """The restaurant's orders, newest first."""
    wanted = order_state.value if order_state else None
    page = orders_of(await gateway.rows(sql.RESTAURANT_ORDERS, request.user.id, *after_order(cursor), limit, wanted))
    return RestaurantOrders([for_restaurant(order) for order in page], next_order(page, limit))


@post("/orders/{order_id:str}/accept", status_code=200, responses=problems(404, 409))
async def accept_order(request: HttpRequest, gateway: Gate, order_id: FromPath[str]) -> RestaurantOrder:
    """Take the order. A repeat changes nothing and shows the order as it is."""

    def wish(order: Order) -> Wish:
        theirs(order.restaurant_id, request.user.id)
        return Wish(action=Action.ACCEPT)

    return for_restaurant(await step(gateway, request, order_id, wish, Fact.RESTAURANT_ACCEPTED))


@post("/orders/{order_id:str}/reject", dto=Json[RejectOrder], status_code=200, responses=problems(404, 409, 413, 415))
async def reject_order(
    request: HttpRequest, gateway: Gate, order_id: FromPath[str], data: JSONBody[RejectOrder]
) -> RestaurantOrder:
    """Refuse the order. With unavailable items the customer is asked; without, another restaurant is tried, or the money goes back."""
    reason, said = worded(data.reason, RESTAURANT_WORDS, "restaurant_rejected")

    def wish(order: Order) -> Wish:
        if request.user.id in order.past_restaurants:
            raise DoneBefore("the order went to another restaurant")
        theirs(order.restaurant_id, request.user.id)
        ordered = {line.item_id for line in order.items}
        for index, item_id in enumerate(data.unavailable_items):
            if item_id not in ordered:
                raise Invalid(f"unavailable_items[{index}]", "the order has no such item")
        if data.unavailable_items:
            items = sorted(set(data.unavailable_items))
            return Wish(action=Action.REJECT_ITEMS, reason=reason, data={"unavailable_items": items})
        if reason == CLOSING_TIME:
            late = {"auto_rejected_closing_time": True}
            return Wish(action=Action.REJECT, reason=reason, data=late, values={"reason": CLOSING_TIME})
        return Wish(action=Action.REJECT, reason=reason, values={"reason": "restaurant_rejected"})

    return for_restaurant(await step(gateway, request, order_id, wish, Fact.RESTAURANT_REJECTED, said=said))


@put("/hours", dto=Json[PutHours], responses=problems(404, 413, 415))
async def put_hours(request: HttpRequest, gateway: Gate, data: JSONBody[PutHours]) -> HoursOf:
    """Replace the opening times of the week."""
    if data.time_zone is not None and data.time_zone not in _time_zones():
        raise Invalid("time_zone", "this is no IANA time zone; give one like Europe/Berlin")
    week = msgspec.to_builtins(data.hours)
    for day, spans in week.items():
        for index, (start, _) in enumerate(spans):
            if start == "24:00":
                raise Invalid(f"hours.{day}[{index}][0]", "the day begins at 00:00; 24:00 can only end it")
    row = await gateway.row(sql.PUT_HOURS, request.user.id, week, data.time_zone)
    if row is None:
        raise NotFound("there is no such restaurant")
    return HoursOf(restaurant_id=row["restaurant_id"], time_zone=row["time_zone"], hours=row["hours"])


@lru_cache(maxsize=1)
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


@put("/menu", dto=Json[PutMenu], responses=problems(404, 413, 415))
async def put_menu(request: HttpRequest, gateway: Gate, data: JSONBody[PutMenu]) -> Menu:
    """Replace the menu. Orders that were placed keep their prices."""
    ids = [item.item_id for item in data.items]
    for index, item_id in enumerate(ids):
        if item_id in ids[:index]:
            raise Invalid(f"items[{index}].item_id", "this item is there twice")
    async with gateway.transaction("the menu cannot be written") as conn:
        row = await conn.fetchrow(sql.RESTAURANT, request.user.id, None)
        if row is None:
            raise NotFound("there is no such restaurant")
        for index, item in enumerate(data.items):
            if item.unit_price.currency.upper() != row["currency"].upper():
                raise Invalid(f"items[{index}].unit_price.currency", f"the restaurant's currency is {row['currency']}")
        columns = (
            [i.name for i in data.items],
            [i.unit_price.amount_minor for i in data.items],
            [i.available for i in data.items],
        )
        await conn.execute(sql.PUT_MENU, request.user.id, ids, *columns)
        row = await conn.fetchrow(sql.RESTAURANT, request.user.id, None)
    assert row is not None
    return menu_of(row)


router = Router("/v1/restaurant", route_handlers=[list_restaurant_orders, accept_order, reject_order, put_hours, put_menu],
                guards=[only(Role.RESTAURANT)], tags=["restaurants"])  # fmt: skip
