"""The routes of machines: alive, ready, metrics, and the payment provider's events."""

import asyncio
from datetime import timedelta
from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response, Router, get, post
from litestar.response import Redirect
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from adapters.stripe import verify_event
from gateway import sql
from gateway.context import Gate, Gateway, answering
from gateway.docs import problems
from gateway.edge import Arrival
from orders.decide import command_row
from orders.envelope import TRACEPARENT, trace_id
from orders.names import PRIORITY, Command, State
from orders.order import Order
from outbox.transition import enqueue

_PATIENCE: Final = timedelta(seconds=10)  # what a charge takes by itself; an event for an older one is a hint
_READY_WITHIN_S: Final = 2.0
_SETTLING: Final = frozenset({"payment_intent.succeeded", "payment_intent.payment_failed"})
_OPEN: Final = {"exclude_from_auth": True}


class Health(msgspec.Struct, frozen=True):
    """`ok`: this process answers, or can do its work."""

    status: str


class Received(msgspec.Struct, frozen=True):
    """The event was understood. `reissued`: commands that were issued again because of it."""

    reissued: int


@get("/livez", opt=_OPEN, security=[{}], responses=problems(common=(500,)))
async def livez() -> Health:
    """Whether the process answers at all."""
    return Health("ok")


@get("/readyz", opt=_OPEN, security=[{}], responses=problems(common=(500, 503)))
async def readyz(gateway: Gate) -> Health:
    """Whether orders can be accepted: PostgreSQL answers. The brokers may be away."""
    with answering("PostgreSQL does not answer"):
        async with asyncio.timeout(_READY_WITHIN_S):
            await gateway.row(sql.READY)
    return Health("ok")


@get("/metrics", opt=_OPEN, security=[{}], media_type=MediaType.TEXT, responses=problems(common=(500,)))
async def metrics() -> Response[str]:
    """Prometheus metrics of this process."""
    text: Any = generate_latest()
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@get("/", opt=_OPEN, include_in_schema=False)
async def home() -> Redirect:
    return Redirect("/schema")


@post("/webhooks/stripe", opt=_OPEN, security=[{}], status_code=200, responses=problems(common=(400, 413, 500, 503)))
async def stripe_event(request: Request[Any, Any, Any], gateway: Gate) -> Received:
    """The payment provider's events, signed. A hint that a charge which takes long has been settled; never a fact."""
    now = gateway.now()
    signature = request.headers.get("stripe-signature", "")
    event = verify_event(await request.body(), signature, gateway.settings.stripe_webhook_secret, now)
    if event.type not in _SETTLING:
        return Received(0)
    row = await gateway.row(sql.ORDER_OF_INTENT, event.order_id, event.intent_id)
    order = msgspec.convert(row["order_row"], Order) if row else None
    if order is None or order.state is not State.PAYMENT_PROCESSING or now - order.updated_at < _PATIENCE:
        return Received(0)
    return Received(await _charge_again(gateway, order, request.scope["rushline"]))  # type: ignore[typeddict-item]


async def _charge_again(gateway: Gateway, order: Order, arrival: Arrival) -> int:
    """The pending charge, with its own identity: whoever has done it already takes it for the repeat that it is."""
    headers = {
        TRACEPARENT: arrival.traceparent,
        "causationid": f"req_{arrival.request_id}",
        "correlationid": trace_id(order.traceparent),
    }
    charge = Command.PAYMENT_CHARGE
    now = gateway.now()
    rows = [command_row(k, p, PRIORITY[charge], headers, now) for k, p in order.pending.items() if p.type == charge]
    async with gateway.transaction("the charge cannot be issued again") as conn:
        await enqueue(conn, rows)
    return len(rows)


router = Router("/", route_handlers=[livez, readyz, metrics, home, stripe_event], tags=["machines"])
