"""The only place for the facts' bodies: what Kafka carries on `orders.events`, versioned together with it."""

from datetime import datetime
from typing import Any, Final

import msgspec

from orders.errors import BadMessage
from orders.names import Fact
from orders.names import Role as ActorType

SCHEMA_VERSION: Final = 1


class Actor(msgspec.Struct, frozen=True):
    """Who did it. `id` is a customer, restaurant, driver … or, for the system, the service."""

    type: ActorType
    id: str


class FactBody(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about an order. Amounts in minor units of `currency`.

    Steps of the order have a `position` and a `state`; `notification.sent` and `driver.location_update` have neither.
    `data` is what is particular to the type: see `DATA`.
    """

    order_id: str
    type: Fact
    position: int | None = None
    occurred_at: datetime
    previous_state: str | None = None
    state: str | None = None
    customer_id: str
    restaurant_id: str
    city: str
    driver_id: str | None = None
    currency: str
    total: int
    reason: str | None = None
    actor: Actor
    data: dict[str, Any] = {}


# What `data` holds, by type. Types that are not listed have none.
DATA: Final[dict[Fact, tuple[str, ...]]] = {
    Fact.ORDER_PLACED: ("items", "item_count", "subtotal", "delivery_fee", "total", "address", "payment_method_id"),
    Fact.PAYMENT_PROCESSING: ("payment_intent_id",),
    Fact.PAYMENT_CONFIRMED: ("payment_intent_id", "amount"),
    Fact.PAYMENT_FAILED: ("decline_code",),
    Fact.PAYMENT_REFUNDED: ("refund_id", "refund_reason", "amount", "refunded_total"),
    Fact.RESTAURANT_REJECTED: ("unavailable_items", "auto_rejected_closing_time"),
    Fact.ORDER_REROUTED: ("from_restaurant_id", "items", "item_count", "subtotal", "delivery_fee", "total"),
    Fact.DRIVER_ASSIGNED: ("driver_id", "distance_m"),
    Fact.DRIVER_RELEASED: ("driver_id",),
    Fact.FRAUD_DETECTED: ("rule",),
    Fact.DISPUTE_OPENED: ("dispute_id", "kind"),
    Fact.DISPUTE_RESOLVED: ("dispute_id", "resolution", "amount"),
    # What was done: to which letter, by which rule, edit or replay; to which dispute. `note`: an operator's words about a message,
    # never about a customer: those go into `Wish.private`.
    Fact.SUPPORT_INTERVENTION: (
        "note", "act", "letter_id", "message_id", "command", "failure", "rule_id", "rule", "edit_id", "replay_id", "outcome",
        "dispute_id", "assigned_to", "evidence_id", "sha256",
    ),
    Fact.NOTIFICATION_SENT: ("channel", "template", "recipient"),
    Fact.DRIVER_LOCATION_UPDATE: ("driver_id", "latitude", "longitude"),
}  # fmt: skip
_DECODER: Final = msgspec.json.Decoder(FactBody)


def read_fact(version: int, body: bytes) -> FactBody:
    """The fact in these bytes. Raises `BadMessage` for a newer schema, or a body that is not one."""
    if version > SCHEMA_VERSION:
        raise BadMessage(f"the fact has schema version {version}; this process reads up to {SCHEMA_VERSION}")
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadMessage(f"not a fact: {error}") from error
