"""The routes by which support finds an order, sees all that is known of it, and does something for it."""

from typing import Final

from litestar import get, post
from litestar.params import FromPath, JSONBody

from audit.investigation.delays import WAITS, Limits
from audit.investigation.gathering import gather
from audit.investigation.material import Material
from audit.investigation.model import IntegrityOf, Investigation, Timeline
from audit.investigation.telling import integrity_of, investigate, timeline_of
from gateway import support_search
from gateway.auth import only
from gateway.bodies import Json
from gateway.context import Gate, Gateway, HttpRequest, cause_of, order_id_of
from gateway.docs import problems
from gateway.paging import Cursor, Limit, cursor_at
from gateway.support_answers import FoundOrders, Intervened, found_order
from gateway.support_filters import ORDERS, OrdersWanted
from gateway.support_looks import looked_at, record, searching
from gateway.support_schemas import InterveneOrder
from orders.decide import Wish
from orders.lifecycle import Action
from orders.names import Act, Role
from outbox.personal_keys import key_of
from outbox.transition import load, move

SUPPORT: Final = [only(Role.SUPPORT)]
READERS: Final = [only(Role.SUPPORT, Role.AUDITOR)]


def limits_of(gateway: Gateway) -> Limits:
    """The settings' deadlines, as the table of waits names them."""
    names = {wait.setting for wait in WAITS if wait.setting}
    return Limits(deadlines={name: getattr(gateway.settings, name) for name in names}, scale=gateway.settings.time_scale)


async def _material(gateway: Gateway, order_id: str) -> Material:
    older = gateway.archive.chains if gateway.archive else None
    return await gather(gateway.pool, gateway.ledger, order_id_of(order_id), older)


@get("/orders", dependencies=ORDERS, guards=SUPPORT, responses=problems())
async def search_orders(
    request: HttpRequest, gateway: Gate, wanted: OrdersWanted, limit: Limit = 20, cursor: Cursor = None
) -> FoundOrders:
    """Orders, newest first. The search is recorded with its filter."""
    async with gateway.transaction("the orders cannot be searched") as conn:
        page = await support_search.orders(conn, wanted, cursor=cursor, limit=limit)
        await record(conn, gateway, request, searching(request, Act.ORDERS_SEARCHED, wanted))
    following = cursor_at(page[-1]["placed_at"], page[-1]["order_id"]) if len(page) == limit else None
    return FoundOrders(orders=[found_order(row) for row in page], next_cursor=following)


@get("/orders/{order_id:str}/investigation", guards=SUPPORT, responses=problems(404))
async def investigation(request: HttpRequest, gateway: Gate, order_id: FromPath[str]) -> Investigation:
    """All that is known about an order: what happened, what is not as usual, the money, the likely cause. The look is recorded."""
    material = await _material(gateway, order_id)
    await looked_at(gateway, request, order_id, "investigation")
    return investigate(material, gateway.now(), limits_of(gateway))


@get("/orders/{order_id:str}/timeline", guards=SUPPORT, responses=problems(404))
async def timeline(request: HttpRequest, gateway: Gate, order_id: FromPath[str]) -> Timeline:
    """What happened to an order, step by step, with delays and gaps pointed out. The look is recorded."""
    material = await _material(gateway, order_id)
    await looked_at(gateway, request, order_id, "timeline")
    return timeline_of(material, gateway.now(), limits_of(gateway))


@get("/orders/{order_id:str}/integrity", guards=READERS, responses=problems(404))
async def integrity(request: HttpRequest, gateway: Gate, order_id: FromPath[str]) -> IntegrityOf:
    """Whether the record of an order holds: its chains computed again now, against their heads and the log. Recorded."""
    material = await _material(gateway, order_id)
    await looked_at(gateway, request, order_id, "integrity")
    return IntegrityOf(order_id=order_id, integrity=integrity_of(material))


@post(
    "/orders/{order_id:str}/interventions", dto=Json[InterveneOrder], guards=SUPPORT, status_code=201,
    responses=problems(404, 409, 413, 415),
)  # fmt: skip
async def intervene(request: HttpRequest, gateway: Gate, order_id: FromPath[str], data: JSONBody[InterveneOrder]) -> Intervened:
    """Leave a note with an order, or cancel it while that is possible: all of the money goes back."""
    order, _ = await load(gateway.pool, order_id_of(order_id))
    key = await key_of(gateway.pool, order.customer_id)
    said = {"note": data.note}
    if data.do == "cancel":
        wish = Wish(action=Action.CANCEL, reason="support_request", private=said, key=key)
    else:
        wish = Wish(action=Action.INTERVENE, reason="support_note", data={"act": "note"}, private=said, key=key)
    moved = await move(gateway.pool, order_id, wish, cause_of(request), gateway.wait, clock=gateway.clock)
    return Intervened(order_id=moved.order_id, status=moved.state.value, position=moved.position)


ROUTES: Final = (search_orders, investigation, timeline, integrity, intervene)
