"""The only place that writes what support searches: one row per order, as its facts tell it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from adapters.postgres import Connection
from orders.facts import FactBody
from orders.names import ORDERS_TOPIC, Fact
from streams import sql
from streams.group import Group, Incoming, fact_of

_MOMENTS: Final = {
    Fact.ORDER_PLACED: "placed_at",
    Fact.PAYMENT_CONFIRMED: "paid_at",
    Fact.RESTAURANT_NOTIFIED: "notified_at",
    Fact.RESTAURANT_ACCEPTED: "accepted_at",
    Fact.RESTAURANT_REJECTED: "rejected_at",
    Fact.DRIVER_ASSIGNED: "driver_at",
    Fact.ORDER_PICKED_UP: "picked_up_at",
    Fact.ORDER_DELIVERED: "delivered_at",
    Fact.ORDER_COMPLETED: "ended_at",
    Fact.ORDER_CANCELLED: "ended_at",
    Fact.PAYMENT_FAILED: "ended_at",
    Fact.PAYMENT_REFUNDED: "refunded_at",
}


class Told(msgspec.Struct):
    """What a batch says about one order, in the order of the table's columns. None: nothing about that."""

    order_id: str
    customer_id: str
    restaurant_id: str
    driver_id: str | None
    city: str
    state: str
    reason: str | None
    currency: str
    total: int
    captured: int = 0
    refunded: int = 0
    position: int = 0
    last_fact: str = ""
    flagged: bool = False
    disputed: bool = False
    placed_at: datetime | None = None
    paid_at: datetime | None = None
    notified_at: datetime | None = None
    accepted_at: datetime | None = None
    rejected_at: datetime | None = None
    driver_at: datetime | None = None
    picked_up_at: datetime | None = None
    delivered_at: datetime | None = None
    ended_at: datetime | None = None
    refunded_at: datetime | None = None
    updated_at: datetime | None = None


class Support(Group):
    """The read model behind support's search."""

    noun = "support"
    linger_ms = 500
    read_models = ("support_orders",)

    def __init__(self, *, topic: str = ORDERS_TOPIC, name: str = "") -> None:
        super().__init__(topic=topic, name=name)

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        rows = told([fact for fact in map(fact_of, taken) if fact.position is not None])
        if rows:
            await db.execute(sql.TELL_SUPPORT, *_columns(rows))


def told(facts: Sequence[FactBody]) -> list[Told]:
    """One row for each order that these facts are about. Pure."""
    rows: dict[str, Told] = {}
    for fact in facts:
        row = rows.get(fact.order_id)
        if row is None:
            row = rows[fact.order_id] = Told(
                order_id=fact.order_id, customer_id=fact.customer_id, restaurant_id=fact.restaurant_id,
                driver_id=fact.driver_id, city=fact.city, state="", reason=None, currency=fact.currency, total=fact.total,
            )  # fmt: skip
        _tell(row, fact)
    return sorted(rows.values(), key=lambda row: row.order_id)


def _tell(row: Told, fact: FactBody) -> None:
    row.restaurant_id, row.driver_id, row.total = fact.restaurant_id, fact.driver_id, fact.total
    row.state, row.position = fact.state or row.state, fact.position or row.position
    row.reason = fact.reason or row.reason
    row.last_fact, row.updated_at = fact.type.value, fact.occurred_at
    if moment := _MOMENTS.get(fact.type):
        setattr(row, moment, fact.occurred_at)
    match fact.type:
        case Fact.PAYMENT_CONFIRMED:
            row.captured += int(fact.data.get("amount") or 0)
        case Fact.PAYMENT_REFUNDED:
            row.refunded = max(row.refunded, int(fact.data.get("refunded_total") or fact.data.get("amount") or 0))
        case Fact.FRAUD_DETECTED:
            row.flagged = True
        case Fact.DISPUTE_OPENED:
            row.disputed = True
        case _:
            pass


def _columns(rows: Sequence[Told]) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in Told.__struct_fields__]
