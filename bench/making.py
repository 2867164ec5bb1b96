"""What benchmarks are made of: orders, outbox rows, percentiles."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from orders import chain
from orders.envelope import Broker, OutboxRow, new_traceparent
from orders.ids import new_id
from orders.money import Line, price
from orders.names import ORDERS_TOPIC, Command, State
from orders.order import Address, Order

BODY_BYTES: Final = 800  # about what an order.placed with three lines has


class Figure(msgspec.Struct, frozen=True):
    """One measurement."""

    name: str
    value: float
    unit: str
    note: str = ""


def fresh_order() -> Order:
    """An order as the gateway makes it, at position 0."""
    lines = tuple(Line(new_id("itm"), name, 1, 890) for name in ("Caldo verde", "Bacalhau", "Pastel de nata"))
    amounts, now = price(lines, 250, "EUR"), datetime.now(UTC)
    return Order(
        order_id=new_id("ord"), customer_id=new_id("cus"), restaurant_id=new_id("rst"), city="Lisboa", state=State.PLACED,
        chain_head=chain.GENESIS, items=lines, address=Address("Rua Augusta 1", "Lisboa", "1100-048", 38.71, -9.14),
        currency="EUR", item_count=amounts.item_count, subtotal=amounts.subtotal, delivery_fee=amounts.delivery_fee,
        total=amounts.total, payment_method_id="pm_card_visa", traceparent=new_traceparent(), placed_at=now, updated_at=now,
    )  # fmt: skip


def outbox_rows(broker: Broker, count: int) -> list[OutboxRow]:
    """Rows of many orders, of a usual size."""
    now = datetime.now(UTC)
    body = b'{"filler":"' + b"x" * (BODY_BYTES - 13) + b'"}'
    destination = ORDERS_TOPIC if broker is Broker.KAFKA else Command.NOTIFICATION_PUSH.value
    return [
        OutboxRow(
            event_id=new_id("evt"), aggregate_id=new_id("ord"), position=1, type=destination, schema_version=1, body=body,
            headers={"traceparent": new_traceparent()}, broker=broker, destination=destination, priority=1, occurred_at=now,
        )
        for _ in range(count)
    ]  # fmt: skip


def percentile(values: Sequence[float], p: int) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * p // 100)]
