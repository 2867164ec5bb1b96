"""The only place that counts: what happened per minute, city, restaurant and currency, exactly once in effect."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias

from adapters.postgres import Connection
from orders.facts import FactBody
from orders.names import ORDERS_TOPIC, Fact
from streams import metrics, sql
from streams.group import Group, Incoming, fact_of

_Key: TypeAlias = tuple[datetime, str, str, str]  # minute, city, restaurant, currency: the order of the table's key

COUNTS: Final = (
    "placed", "completed", "cancelled", "failed", "rejected", "disputed", "captured", "refunded", "paid_count", "paid_ms",
    "accepted_count", "accepted_ms", "driver_count", "driver_ms", "picked_up_count", "picked_up_ms", "delivered_count",
    "delivered_ms",
)  # fmt: skip
_COUNTED: Final = {
    Fact.ORDER_PLACED: "placed",
    Fact.ORDER_COMPLETED: "completed",
    Fact.ORDER_CANCELLED: "cancelled",
    Fact.PAYMENT_FAILED: "failed",
    Fact.RESTAURANT_REJECTED: "rejected",
    Fact.DISPUTE_OPENED: "disputed",
}
_AMOUNTS: Final = {Fact.PAYMENT_CONFIRMED: "captured", Fact.PAYMENT_REFUNDED: "refunded"}
_STEPS: Final = {
    Fact.PAYMENT_CONFIRMED: "paid",
    Fact.RESTAURANT_ACCEPTED: "accepted",
    Fact.DRIVER_ASSIGNED: "driver",
    Fact.ORDER_PICKED_UP: "picked_up",
    Fact.ORDER_DELIVERED: "delivered",
}


class Analytics(Group):
    """Counts, amounts and times since the order was placed, each in the minute in which it happened."""

    noun = "analytics"
    linger_ms = 500
    read_models = ("analytics_minutes", "analytics_orders")

    def __init__(self, *, topic: str = ORDERS_TOPIC, name: str = "") -> None:
        super().__init__(topic=topic, name=name)

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        facts = [fact for fact in map(fact_of, taken) if fact.type in _COUNTED or fact.type in _STEPS or fact.type in _AMOUNTS]
        if not facts:
            return
        placed = {fact.order_id: fact.occurred_at for fact in facts if fact.type is Fact.ORDER_PLACED}
        timed = sorted({fact.order_id for fact in facts if fact.type in _STEPS} - placed.keys())
        if placed or timed:
            rows = await db.fetch(sql.PLACED_AT, list(placed), list(placed.values()), timed)
            placed |= {row["order_id"]: row["placed_at"] for row in rows}
        minutes = added(facts, placed)
        keys = sorted(minutes)  # one order for everybody, so that two members cannot wait for each other
        columns = [[key[i] for key in keys] for i in range(4)]
        await db.execute(sql.ADD_MINUTES, *columns, *([minutes[key][name] for key in keys] for name in COUNTS))
        metrics.COMPLETED.inc(sum(fact.type is Fact.ORDER_COMPLETED for fact in facts))
        metrics.DISPUTED.inc(sum(fact.type is Fact.DISPUTE_OPENED for fact in facts))


def added(facts: Sequence[FactBody], placed: dict[str, datetime]) -> dict[_Key, dict[str, int]]:
    """What these facts add to each minute. Pure."""
    minutes: dict[_Key, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    for fact in facts:
        minute = fact.occurred_at.replace(second=0, microsecond=0)
        row = minutes[minute, fact.city, fact.restaurant_id, fact.currency]
        if name := _COUNTED.get(fact.type):
            row[name] += 1
        if name := _AMOUNTS.get(fact.type):
            row[name] += int(fact.data.get("amount") or 0)
        if (step := _STEPS.get(fact.type)) and (since := placed.get(fact.order_id)):
            row[f"{step}_count"] += 1
            row[f"{step}_ms"] += round((fact.occurred_at - since).total_seconds() * 1000)
    return minutes
