"""The route by which one event is proven to be in the log, to whoever has the log's key and nothing else. For support and auditors."""

from typing import Final

from litestar import MediaType, get
from litestar.params import FromPath

from audit.proving import NoSuchEvent, Prover
from gateway import support_sql as sql
from gateway.auth import only
from gateway.context import Gate, HttpRequest, order_id_of
from gateway.docs import problems
from gateway.support_looks import looked_at
from orders.ids import is_id
from orders.names import Role
from outbox.deeds import looks_at


@get(
    "/orders/{order_id:str}/proof/{event_id:str}", media_type=MediaType.TEXT, guards=[only(Role.SUPPORT, Role.AUDITOR)],
    responses=problems(404),
)  # fmt: skip
async def proof(request: HttpRequest, gateway: Gate, order_id: FromPath[str], event_id: FromPath[str]) -> str:
    """A proof (C2SP tlog-proof) that an event of the order is in the log. 503 while no checkpoint covers it yet. Recorded."""
    chains = [order_id_of(order_id), looks_at(order_id)]
    if not is_id(event_id, "aud"):
        raise NoSuchEvent("there is no such event")
    async with gateway.reading("the event cannot be found") as conn:
        leaf = await conn.fetchval(sql.EVENT_OF, event_id, chains)
    if leaf is None and gateway.archive is not None:
        place = await gateway.archive.place(event_id, chains)
        leaf = place.index if place else None
    if leaf is None:
        raise NoSuchEvent("the order has no such event in the log")
    async with gateway.reading("the event cannot be proven") as conn:
        made = await (await Prover.newest(conn, gateway.settings.audit_checkpoint_ms / 1000)).proof(leaf)
    await looked_at(gateway, request, order_id, f"proof of {event_id}")
    return made


ROUTES: Final = (proof,)
