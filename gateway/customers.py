"""The routes of customers: order, look, follow, cancel, decide."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

import msgspec
from litestar import MediaType, Response, Router, get, post
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromPath, HeaderParameter, JSONBody
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from gateway import sql
from gateway.actions import step, theirs
from gateway.answers import CustomerOrder, CustomerOrders, PlacedOrder, for_customer
from gateway.auth import only
from gateway.bodies import Json
from gateway.context import Gate, Gateway, HttpRequest, cause_of, order_id_of, orders_of
from gateway.decisions import asked, offered
from gateway.docs import NeedsKey, problems
from gateway.idempotency import HEADER, read_key
from gateway.paging import Cursor, Limit, after_order, next_order
from gateway.placing import place
from gateway.resolution import resolve
from gateway.schemas import PLACE_ORDER_EXAMPLE, CancelOrder, PlaceOrder, ResolveOrder
from orders.decide import Wish
from orders.facts import FactBody
from orders.lifecycle import Action
from orders.names import FINAL, Fact, Role
from orders.order import Order
from outbox.transition import load

_LAST_POSITION: Final = 2**31 - 1
_JSON: Final = msgspec.json.Encoder()


@post(
    "/orders",
    dto=Json[PlaceOrder],
    operation_class=NeedsKey,
    responses=problems(409, 413, 415),
)
async def place_order(
    request: HttpRequest,
    gateway: Gate,
    data: Annotated[PlaceOrder, BodyKwarg(examples=[Example(value=PLACE_ORDER_EXAMPLE)])],
    idempotency_key: Annotated[  # noqa: ARG001  # for the document: all values of the header are read below
        str | None,
        HeaderParameter(name=HEADER, description='One per order: Idempotency-Key: "<uuid>". A repeat gets the first answer.'),
    ] = None,
) -> Response[PlacedOrder]:
    """Place an order. It is accepted once it is stored, and tracked from then on."""
    key = read_key(request.headers.getall(HEADER, []))
    answer: Any = await place(gateway, key, data, cause_of(request))
    return Response(answer, media_type=MediaType.JSON, status_code=201)


@get("/orders", responses=problems())
async def list_orders(request: HttpRequest, gateway: Gate, limit: Limit = 20, cursor: Cursor = None) -> CustomerOrders:
    """Your orders, newest first."""
    page = orders_of(await gateway.rows(sql.CUSTOMER_ORDERS, request.user.id, *after_order(cursor), limit))
    return CustomerOrders([for_customer(order) for order in page], next_order(page, limit))


@get("/orders/{order_id:str}", responses=problems(404))
async def get_order(request: HttpRequest, gateway: Gate, order_id: FromPath[str]) -> CustomerOrder:
    """One of your orders."""
    order = await _own(gateway, request, order_id)
    return for_customer(order, await offered(gateway, order))


@get(
    "/orders/{order_id:str}/events",
    media_type="text/event-stream",
    responses={
        204: ResponseSpec(None, description="The order is final, and you have seen its last event."),
        **problems(404),
    },
)
async def follow_order(
    request: HttpRequest,
    gateway: Gate,
    order_id: FromPath[str],
    last_event_id: Annotated[
        int | None,
        HeaderParameter(name="Last-Event-ID", ge=0, le=_LAST_POSITION, description="Events above this position only."),
    ] = None,
) -> Response[Any]:
    """What happens to your order, as server-sent events; the id of each is its position. Ends when the order is final."""
    order = await _own(gateway, request, order_id)
    after = last_event_id or 0
    if order.state in FINAL and not order.pending and after >= order.position:
        return Response(None, status_code=204)
    return ServerSentEvent(_stream(gateway, order.order_id, after))


async def _stream(gateway: Gateway, order_id: str, after: int) -> AsyncGenerator[ServerSentEventMessage, None]:
    yield ServerSentEventMessage(data=None, retry=1000, comment="following")
    async for fact in gateway.watch.follow(order_id, after):
        if fact is None:
            yield ServerSentEventMessage(data=None, comment="still here")
        else:
            yield ServerSentEventMessage(data=_JSON.encode(_told(fact)), event=fact.type.value, id=fact.position)


def _told(fact: FactBody) -> dict[str, Any]:
    """What a customer is told of a step: not which rule found fraud, not who on the other side acted."""
    told: dict[str, Any] = {
        "order_id": fact.order_id, "position": fact.position, "type": fact.type.value, "status": fact.state,
        "occurred_at": fact.occurred_at, "reason": fact.reason, "driver_id": fact.driver_id,
    }  # fmt: skip
    if "unavailable_items" in fact.data:
        told["unavailable_items"] = fact.data["unavailable_items"]
    if fact.type is Fact.ORDER_REROUTED:
        told |= {"restaurant_id": fact.restaurant_id, "total": {"amount_minor": fact.total, "currency": fact.currency}}
    return told


@post("/orders/{order_id:str}/cancel", dto=Json[CancelOrder], status_code=200, responses=problems(404, 409, 413, 415))
async def cancel_order(
    request: HttpRequest, gateway: Gate, order_id: FromPath[str], data: JSONBody[CancelOrder | None] = None
) -> CustomerOrder:
    """Cancel your order. Possible until it is picked up; all of the money goes back."""

    def wish(order: Order) -> Wish:
        theirs(order.customer_id, request.user.id)
        return Wish(action=Action.CANCEL, reason="customer_request")

    said = (data and data.reason) or ""
    return for_customer(await step(gateway, request, order_id, wish, Fact.ORDER_CANCELLED, said=said))


@post("/orders/{order_id:str}/resolution", dto=Json[ResolveOrder], status_code=200, responses=problems(404, 409, 413, 415))
async def resolve_order(
    request: HttpRequest, gateway: Gate, order_id: FromPath[str], data: JSONBody[ResolveOrder]
) -> CustomerOrder:
    """Decide what becomes of your order after the restaurant found items unavailable."""
    order = await _own(gateway, request, order_id)
    decision = await asked(gateway, order)
    return for_customer(await resolve(gateway, order, decision, data, cause_of(request)))


async def _own(gateway: Gateway, request: HttpRequest, order_id: str) -> Order:
    order, _ = await load(gateway.pool, order_id_of(order_id))
    theirs(order.customer_id, request.user.id)
    return order


router = Router("/v1", route_handlers=[place_order, list_orders, get_order, follow_order, cancel_order, resolve_order],
                guards=[only(Role.CUSTOMER)], tags=["customers"])  # fmt: skip
