"""The only place for the words that customers and drivers are told."""

from collections.abc import Mapping
from typing import Final

import msgspec

from orders.errors import CallAnOperator
from orders.failures import FailureType
from orders.order import Order

_DRIVER: Final = "drv_"


class UnknownTemplate(CallAnOperator):
    """A command names words that nobody has written."""

    slug = "unknown-template"
    failure = FailureType.UNKNOWN


class Text(msgspec.Struct, frozen=True):
    title: str
    body: str


_CUSTOMER_TEXTS: Final = {
    "order_placed": Text("Order placed", "We have your order {order} for {total}."),
    "order_confirmed": Text("Order confirmed", "Your payment of {total} for order {order} went through."),
    "payment_confirmed": Text("Payment received", "Your payment of {total} for order {order} went through."),
    "payment_declined": Text("Payment declined", "Your bank declined {total} for order {order}. You were not charged."),
    "payment_failed": Text("Payment failed", "We could not take {total} for order {order}. Whatever was taken goes back."),
    "payment_timeout": Text(
        "Payment failed",
        "Payment failed after three retries: {total} for order {order} could not be taken. Whatever was taken goes back.",
    ),
    "refunded": Text("Money on its way back", "{amount} of order {order} goes back to you."),
    "security_hold": Text("Order on hold", "For your security order {order} was stopped. Whatever was paid goes back."),
    "restaurant_accepted": Text("In the kitchen", "The restaurant is preparing order {order}."),
    "restaurant_rejected": Text("The restaurant cannot take it", "The restaurant cannot take order {order}: {reason}."),
    "order_rerouted": Text("Another restaurant cooks for you", "Order {order} goes to another restaurant. It costs {total}."),
    "item_unavailable": Text("Something is sold out", "Part of order {order} is not available. Tell us what you would like."),
    "order_cancelled": Text("Order cancelled", "Order {order} is cancelled: {reason}. Whatever was paid goes back."),
    "dispute_refunded": Text(
        "We looked into it", "We looked into your complaint about order {order}: {amount} goes back to you."
    ),
    "dispute_refused": Text(
        "We looked into it", "We looked into your complaint about order {order}. Nothing goes back, because: {reason}."
    ),
    "driver_assigned": Text("A driver is on the way", "A driver is on the way to pick up order {order}."),
    "driver_released": Text("Another driver is coming", "We are finding another driver for order {order}."),
    "picked_up": Text("On the way to you", "Order {order} is on its way to you."),
    "delivered": Text("Delivered", "Order {order} was delivered. Enjoy."),
}
_DRIVER_TEXTS: Final = {
    "driver_assigned": Text("New trip", "Pick up order {order}, {distance_m} m from you."),
    "trip_cancelled": Text("Trip cancelled", "Order {order} is no longer yours: {reason}."),
}


def render(template: str, recipient: str, order: Order, params: Mapping[str, str]) -> Text:
    """The words for this recipient. What `params` does not say comes from the order. Raises `UnknownTemplate`."""
    texts = _DRIVER_TEXTS if recipient.startswith(_DRIVER) else _CUSTOMER_TEXTS
    text = texts.get(template)
    if text is None:
        raise UnknownTemplate(f"there is no template {template[:50]!r} for {recipient[:4]}")
    total = _money(order.total, order.currency)
    values = {"amount": total, "reason": order.reason or "", "distance_m": "?", **params}
    values |= {"order": order.order_id[-8:], "total": total, "reason": values["reason"].replace("_", " ")}
    if values["amount"].isdecimal():
        values["amount"] = _money(int(values["amount"]), order.currency)
    return Text(text.title.format_map(values), text.body.format_map(values))


def push_data(template: str, order: Order, params: Mapping[str, str]) -> dict[str, str]:
    """What an app reads in a push, beside the words for people."""
    return {**params, "template": template, "order_id": order.order_id}


def _money(minor: int, currency: str) -> str:
    return f"{minor // 100}.{minor % 100:02d} {currency.upper()}"
