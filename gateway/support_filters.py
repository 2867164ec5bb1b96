"""The only place that reads from a query string which orders, audit events or disputes are meant."""

from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter, SkipValidation

from gateway.bodies import locate
from gateway.support_schemas import AuditFilter, OrderFilter
from orders.disputes import DisputeKind, DisputeState
from orders.errors import Invalid
from orders.names import State
from outbox.disputes import Filter

T = TypeVar("T")
_WORD: Final = 200


def _checked(model: type[T], given: dict[str, Any]) -> T:
    """With the bounds of a body: what PostgreSQL cannot hold is refused here. Raises `Invalid`."""
    try:
        return msgspec.convert({name: value for name, value in given.items() if value is not None}, model)
    except msgspec.ValidationError as error:
        raise Invalid(*locate(str(error))) from error


async def _orders(
    order_id: Annotated[str | None, QueryParameter(max_length=_WORD, description="This order.")] = None,
    customer_id: Annotated[str | None, QueryParameter(max_length=_WORD, description="Of this customer.")] = None,
    restaurant_id: Annotated[str | None, QueryParameter(max_length=_WORD, description="At this restaurant.")] = None,
    driver_id: Annotated[str | None, QueryParameter(max_length=_WORD, description="Carried by this driver.")] = None,
    order_state: Annotated[State | None, QueryParameter(name="state", description="In this state only.")] = None,
    city: Annotated[str | None, QueryParameter(max_length=_WORD, description="In this city.")] = None,
    disputed: Annotated[bool | None, QueryParameter(description="Whether there is or was a dispute.")] = None,
    flagged: Annotated[bool | None, QueryParameter(description="Whether a fraud rule fired.")] = None,
    placed_from: Annotated[datetime | None, QueryParameter(description="Placed at this time or later.")] = None,
    placed_before: Annotated[datetime | None, QueryParameter(description="Placed before this time.")] = None,
) -> OrderFilter:
    return _checked(OrderFilter, {
        "order_id": order_id, "customer_id": customer_id, "restaurant_id": restaurant_id, "driver_id": driver_id,
        "state": order_state, "city": city, "disputed": disputed, "flagged": flagged, "placed_from": placed_from,
        "placed_before": placed_before,
    })  # fmt: skip


async def _audit(
    actor: Annotated[str | None, QueryParameter(max_length=_WORD, description="Done by this person or service.")] = None,
    action: Annotated[str | None, QueryParameter(max_length=_WORD, description="Like order.cancelled or order.viewed.")] = None,
    order_state: Annotated[State | None, QueryParameter(name="state", description="That led to this state.")] = None,
    order_id: Annotated[str | None, QueryParameter(max_length=_WORD, description="About this order, looks included.")] = None,
    happened_from: Annotated[datetime | None, QueryParameter(name="from", description="At this time or later.")] = None,
    before: Annotated[datetime | None, QueryParameter(description="Before this time.")] = None,
) -> AuditFilter:
    return _checked(AuditFilter, {
        "actor": actor, "action": action, "state": order_state, "order_id": order_id, "from": happened_from, "before": before,
    })  # fmt: skip


async def _disputes(
    dispute_state: Annotated[DisputeState | None, QueryParameter(name="state", description="In this state only.")] = None,
    kind: Annotated[DisputeKind | None, QueryParameter(description="Of this kind only.")] = None,
    assigned_to: Annotated[str | None, QueryParameter(max_length=_WORD, description="Looked after by this person.")] = None,
    order_id: Annotated[str | None, QueryParameter(max_length=_WORD, description="Of this order.")] = None,
    customer_id: Annotated[str | None, QueryParameter(max_length=_WORD, description="Of this customer.")] = None,
) -> Filter:
    words = _checked(OrderFilter, {"order_id": order_id, "customer_id": customer_id, "driver_id": assigned_to})
    return Filter(
        state=dispute_state, kind=kind, assigned_to=words.driver_id, order_id=words.order_id, customer_id=words.customer_id
    )


OrdersWanted: TypeAlias = NamedDependency[SkipValidation[OrderFilter]]
AuditWanted: TypeAlias = NamedDependency[SkipValidation[AuditFilter]]
DisputesWanted: TypeAlias = NamedDependency[SkipValidation[Filter]]
ORDERS: Final = {"wanted": Provide(_orders)}
AUDIT: Final = {"wanted": Provide(_audit)}
DISPUTES: Final = {"wanted": Provide(_disputes)}
