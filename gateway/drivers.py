"""The routes of drivers: whether and where they are, what they carry, picked up, delivered, given back."""

import msgspec
from litestar import Router, get, post, put
from litestar.params import FromPath, JSONBody

from adapters.postgres import Record
from gateway import sql
from gateway.actions import DoneBefore, step, theirs
from gateway.answers import Driver, DriverOrder, DriverOrders, assignment_of, for_driver
from gateway.auth import only
from gateway.bodies import Json
from gateway.context import Gate, Gateway, HttpRequest, cause_of
from gateway.docs import problems
from gateway.problems import Refused
from gateway.schemas import DriverLocation, DriverStatus, ReleaseOrder
from orders.decide import Cause, Wish
from orders.envelope import TRACEPARENT, Broker, OutboxRow
from orders.errors import NotFound
from orders.facts import SCHEMA_VERSION, FactBody
from orders.ids import derived_id
from orders.lifecycle import Action
from orders.names import ORDERS_TOPIC, Fact, Role
from orders.order import Order
from orders.said import DRIVER_WORDS, worded
from outbox.transition import enqueue


class DriverBusy(Refused):
    """Whoever carries an order cannot go offline."""

    slug = "driver-busy"


@put("/status", dto=Json[DriverStatus], responses=problems(404, 409, 413, 415))
async def put_status(request: HttpRequest, gateway: Gate, data: JSONBody[DriverStatus]) -> Driver:
    """Take orders, or stop taking them. A driver who carries an order stays busy until it is delivered or given back."""
    changed = await gateway.row(sql.PUT_STATUS, request.user.id, data.status, data.latitude, data.longitude)
    row = await _driver(gateway, request)
    if changed is None:
        raise DriverBusy("you carry an order", order_id=row["order_row"] and row["order_row"]["order_id"])
    return Driver(status=row["status"], assignment=assignment_of(row["assignment"]))


@put("/location", dto=Json[DriverLocation], responses=problems(404, 413, 415))
async def put_location(request: HttpRequest, gateway: Gate, data: JSONBody[DriverLocation]) -> Driver:
    """Say where you are. While you carry an order, its customer can see it."""
    await gateway.row(sql.PUT_LOCATION, request.user.id, data.latitude, data.longitude)
    row = await _driver(gateway, request)
    if row["order_row"]:
        order = msgspec.convert(row["order_row"], Order)
        async with gateway.transaction("the location cannot be published") as conn:
            await enqueue(conn, [_location(order, data, cause_of(request), gateway)])
    return Driver(status=row["status"], assignment=assignment_of(row["assignment"]))


def _location(order: Order, at: DriverLocation, cause: Cause, gateway: Gateway) -> OutboxRow:
    now = gateway.now()
    body = FactBody(
        order_id=order.order_id, type=Fact.DRIVER_LOCATION_UPDATE, occurred_at=now, customer_id=order.customer_id,
        restaurant_id=order.restaurant_id, city=order.city, driver_id=cause.actor.id, currency=order.currency,
        total=order.total, actor=cause.actor,
        data={"driver_id": cause.actor.id, "latitude": at.latitude, "longitude": at.longitude},
    )  # fmt: skip
    return OutboxRow(
        event_id=derived_id("evt", order.order_id, cause.actor.id, cause.id, now.isoformat()), aggregate_id=order.order_id,
        position=None, type=Fact.DRIVER_LOCATION_UPDATE.value, schema_version=SCHEMA_VERSION, body=msgspec.json.encode(body),
        headers={TRACEPARENT: cause.traceparent, "causationid": cause.id}, broker=Broker.KAFKA, destination=ORDERS_TOPIC,
        occurred_at=now,
    )  # fmt: skip


@get("/orders", responses=problems(404))
async def list_driver_orders(request: HttpRequest, gateway: Gate) -> DriverOrders:
    """What you carry: one order, or none."""
    assignment = assignment_of((await _driver(gateway, request))["assignment"])
    return DriverOrders([assignment] if assignment else [])


@post("/orders/{order_id:str}/pick-up", status_code=200, responses=problems(404, 409))
async def pick_up(request: HttpRequest, gateway: Gate, order_id: FromPath[str]) -> DriverOrder:
    """The order is with you. A repeat changes nothing."""

    def wish(order: Order) -> Wish:
        _carried_by(order, request.user.id)
        return Wish(action=Action.PICK_UP)

    return for_driver(await step(gateway, request, order_id, wish, Fact.ORDER_PICKED_UP))


@post("/orders/{order_id:str}/deliver", status_code=200, responses=problems(404, 409))
async def deliver(request: HttpRequest, gateway: Gate, order_id: FromPath[str]) -> DriverOrder:
    """The order is with its customer, and you are free for the next. A repeat changes nothing."""

    def wish(order: Order) -> Wish:
        _carried_by(order, request.user.id)
        return Wish(action=Action.DELIVER)

    return for_driver(await step(gateway, request, order_id, wish, Fact.ORDER_DELIVERED))


@post("/orders/{order_id:str}/release", dto=Json[ReleaseOrder], status_code=200, responses=problems(404, 409, 413, 415))
async def release(
    request: HttpRequest, gateway: Gate, order_id: FromPath[str], data: JSONBody[ReleaseOrder | None] = None
) -> DriverOrder:
    """Give the order back before it is picked up: another driver is looked for. A repeat changes nothing."""
    driver_id = request.user.id
    reason, said = worded((data or ReleaseOrder()).reason, DRIVER_WORDS, "driver_unable")

    def wish(order: Order) -> Wish:
        _carried_by(order, driver_id)
        return Wish(
            action=Action.RELEASE_DRIVER,
            reason=reason,
            data={"driver_id": driver_id},
            changes={"driver_id": None, "past_drivers": (*order.past_drivers, driver_id)},
            free_driver=driver_id,
        )

    return for_driver(await step(gateway, request, order_id, wish, Fact.DRIVER_RELEASED, said=said))


def _carried_by(order: Order, driver_id: str) -> None:
    if order.driver_id != driver_id and driver_id in order.past_drivers:
        raise DoneBefore("the order was given back and is carried by somebody else, or by nobody")
    theirs(order.driver_id, driver_id)


async def _driver(gateway: Gateway, request: HttpRequest) -> Record:
    row = await gateway.row(sql.DRIVER, request.user.id)
    if row is None:
        raise NotFound("there is no such driver")
    return row


router = Router("/v1/driver", route_handlers=[put_status, put_location, list_driver_orders, pick_up, deliver, release],
                guards=[only(Role.DRIVER)], tags=["drivers"])  # fmt: skip
