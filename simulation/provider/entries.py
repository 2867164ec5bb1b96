"""The only place that says what the provider's journal can hold. Each line of the ledger file is one of these."""

import msgspec


class Created(msgspec.Struct, frozen=True, tag="created", tag_field="kind"):
    at: float  # seconds since the epoch, as everywhere in this package
    intent: str
    order_id: str
    amount_minor: int
    currency: str
    payment_method: str | None
    metadata: dict[str, str]


class Declined(msgspec.Struct, frozen=True, tag="declined", tag_field="kind"):
    at: float
    intent: str
    charge: str
    payment_method: str
    code: str
    decline_code: str | None


class Captured(msgspec.Struct, frozen=True, tag="captured", tag_field="kind"):
    at: float
    intent: str
    charge: str
    payment_method: str
    amount_minor: int


class Canceled(msgspec.Struct, frozen=True, tag="canceled", tag_field="kind"):
    at: float
    intent: str
    reason: str | None


class Refunded(msgspec.Struct, frozen=True, tag="refunded", tag_field="kind"):
    at: float
    intent: str
    charge: str
    refund: str
    amount_minor: int
    reason: str | None  # one of Stripe's three words; our own reason travels in the metadata
    metadata: dict[str, str]


class Answered(msgspec.Struct, frozen=True, tag="answered", tag_field="kind"):
    """What was answered to an idempotency key, so that a restarted provider replays it."""

    at: float
    key: str
    fingerprint: str
    status: int
    body: msgspec.Raw


Movement = Created | Declined | Captured | Canceled | Refunded
Entry = Movement | Answered
