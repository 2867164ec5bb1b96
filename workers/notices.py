"""The only place that makes the messages which handlers write beside a change: a push to a driver, `notification.sent`."""

from datetime import datetime
from typing import Final

import msgspec

from orders import facts
from orders.commands import command_body, command_id
from orders.decide import command_row, system
from orders.envelope import TRACEPARENT, Broker, OutboxRow, trace_id
from orders.ids import derived_id
from orders.names import ORDERS_TOPIC, PRIORITY, Command, Fact
from orders.order import Order, Pending
from workers.ports import Reservation

_SERVICE: Final = "worker-notifications"


def push_to_driver(order: Order, position: int, found: Reservation, now: datetime) -> OutboxRow:
    """The command that tells a driver of a trip. `position`: of the event that asked for a driver."""
    kind = Command.NOTIFICATION_PUSH
    key = command_id(order.order_id, position, kind, found.driver_id)
    values = {
        "order_id": order.order_id,
        "position": position,
        "recipient": found.driver_id,
        "template": "driver_assigned",
        "params": {"restaurant_id": order.restaurant_id, "distance_m": str(found.distance_m)},
    }
    return command_row(key, Pending(kind.value, command_body(kind, values)), PRIORITY[kind], _headers(order, key), now)


def notification_sent(order: Order, command_key: str, channel: str, template: str, recipient: str, now: datetime) -> OutboxRow:
    """The fact that somebody was told. Not a step of the order: it has no position, and may be shed."""
    fact = facts.FactBody(
        order_id=order.order_id, type=Fact.NOTIFICATION_SENT, occurred_at=now, customer_id=order.customer_id,
        restaurant_id=order.restaurant_id, city=order.city, driver_id=order.driver_id, currency=order.currency,
        total=order.total, actor=system(_SERVICE),
        data={"channel": channel, "template": template, "recipient": recipient},
    )  # fmt: skip
    return OutboxRow(
        event_id=derived_id("evt", command_key, Fact.NOTIFICATION_SENT.value),
        aggregate_id=order.order_id,
        position=None,
        type=Fact.NOTIFICATION_SENT.value,
        schema_version=facts.SCHEMA_VERSION,
        body=msgspec.json.encode(fact, order="deterministic"),
        headers=_headers(order, command_key),
        broker=Broker.KAFKA,
        destination=ORDERS_TOPIC,
        occurred_at=now,
    )


def _headers(order: Order, cause: str) -> dict[str, str]:
    return {TRACEPARENT: order.traceparent, "causationid": cause, "correlationid": trace_id(order.traceparent)}
