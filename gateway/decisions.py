"""The only place that says what a customer is asked about items that the restaurant does not have, and what they are offered."""

from typing import Any, Final

import msgspec

from gateway import sql
from gateway.answers import Decision, Elsewhere, MenuEntry, Money
from gateway.context import Gateway
from orders.facts import SCHEMA_VERSION, read_fact
from orders.lifecycle import Deadline
from orders.names import Fact
from orders.order import Order
from outbox import alternatives

_MOST_SUBSTITUTES: Final = 10


async def asked(gateway: Gateway, order: Order) -> Decision | None:
    """What the customer has to decide. None where they are not asked, or not any more."""
    if order.deadline is not Deadline.CUSTOMER_DECISION:
        return None
    row = await gateway.row(sql.LAST_EVENT, order.order_id, Fact.RESTAURANT_REJECTED.value, order.placed_at)
    fact = read_fact(SCHEMA_VERSION, row["fact"]) if row else None
    return Decision(unavailable_items=list(fact.data.get("unavailable_items", ())) if fact else [], until=order.deadline_at)


async def offered(gateway: Gateway, order: Order) -> Decision | None:
    """The same, with what they can choose from as things are now."""
    decision = await asked(gateway, order)
    if decision is None:
        return None
    row = await gateway.row(sql.RESTAURANT, order.restaurant_id, None)
    async with gateway.connection("other restaurants cannot be looked for") as conn:
        found = await alternatives.find(conn, order, gateway.now())
    return msgspec.structs.replace(
        decision,
        substitutes=substitutes(order, decision.unavailable_items, row["menu"]) if row else [],
        alternative=found and Elsewhere(
            restaurant_id=found.restaurant_id, name=found.name, total=Money(found.amounts.total, order.currency)
        ),
    )  # fmt: skip


def substitutes(order: Order, unavailable: list[str], menu: list[dict[str, Any]]) -> list[MenuEntry]:
    """What can take the place of the missing items for what they cost, nearest in price first. Pure."""
    missing = [line for line in order.items if line.item_id in unavailable]
    ordered = {line.item_id for line in order.items}
    budget = sum(line.quantity * line.unit_price for line in missing)
    usual = max((line.unit_price for line in missing), default=0)
    fitting = [row for row in menu if row["available"] and row["item_id"] not in ordered and row["unit_price"] <= budget]
    fitting.sort(key=lambda row: (abs(row["unit_price"] - usual), row["item_id"]))
    return [
        MenuEntry(
            item_id=row["item_id"], name=row["name"], unit_price=Money(row["unit_price"], order.currency), available=True
        )
        for row in fitting[:_MOST_SUBSTITUTES]
    ]  # fmt: skip
