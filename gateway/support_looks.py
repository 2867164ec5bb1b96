"""The only place where it is recorded that somebody looked: before the answer, or there is none."""

from typing import Any

import msgspec

from adapters.postgres import Connection
from gateway.context import Gateway, HttpRequest, cause_of
from orders.names import Act
from outbox import deeds
from outbox.deeds import Deed, desk_of, looks_at


def desk(request: HttpRequest) -> str:
    """The chain of what the caller does that is about no single order."""
    return desk_of(f"{request.user.type.value}:{request.user.id}")


async def looked_at(gateway: Gateway, request: HttpRequest, order_id: str, part: str) -> None:
    """Somebody saw this part of what is known about an order. Raises `DatabaseUnavailable`: then nothing is shown."""
    deed = Deed(act=Act.ORDER_VIEWED, chain=looks_at(order_id), order_id=order_id, details={"part": part})
    await _recorded(gateway, request, deed)


async def searched(gateway: Gateway, request: HttpRequest, act: Act, wanted: Any) -> None:
    """Somebody searched, and for what. What was found is not written down."""
    await _recorded(gateway, request, searching(request, act, wanted))


def searching(request: HttpRequest, act: Act, wanted: Any) -> Deed:
    """The same, for a search that is a transaction of its own."""
    asked = {name: value for name, value in msgspec.to_builtins(wanted).items() if value is not None}
    return Deed(act=act, chain=desk(request), details={"filter": asked})


async def record(conn: Connection, gateway: Gateway, request: HttpRequest, deed: Deed) -> None:
    """In the caller's transaction."""
    await deeds.record(conn, [deed], cause_of(request), gateway.now())


async def _recorded(gateway: Gateway, request: HttpRequest, deed: Deed) -> None:
    async with gateway.transaction("the look cannot be recorded") as conn:
        await record(conn, gateway, request, deed)
