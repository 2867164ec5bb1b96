"""The only place that says which parts of Stripe's JSON we read. All else in it is ignored, so that it may grow."""

import msgspec

from adapters.payments import IntentStatus, RefundStatus


class Charge(msgspec.Struct):
    id: str
    amount_refunded: int


class PaymentError(msgspec.Struct):
    code: str | None = None
    decline_code: str | None = None


class PaymentIntent(msgspec.Struct):
    id: str
    status: IntentStatus
    amount: int
    amount_received: int
    last_payment_error: PaymentError | None
    latest_charge: Charge | str | None  # its id, where it is not expanded
    payment_method: str | None


class Refund(msgspec.Struct):
    id: str
    status: RefundStatus
    amount: int
    metadata: dict[str, str]


class RefundPage(msgspec.Struct):
    data: list[Refund]
    has_more: bool


class Thing(msgspec.Struct):
    """What an event is about: not all of them are about a payment."""

    id: str = ""
    object: str = ""
    payment_intent: str | None = None
    metadata: dict[str, str] | None = None


class EventData(msgspec.Struct):
    object: Thing


class Event(msgspec.Struct):
    id: str
    type: str
    data: EventData
