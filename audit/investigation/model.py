"""The only place for the shapes of an investigation: what support is told about an order."""

from datetime import datetime
from typing import Any, Literal

import msgspec

Severity = Literal["notice", "unusual", "overdue", "broken"]


class Actor(msgspec.Struct, frozen=True):
    """Who did it."""

    type: str
    id: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the timeline. `private`: what is encrypted in the record, where its key is still there; `erased` where it was
    destroyed. `leaf_index`: its place in the log, null while it is on its way there. `after_s`: seconds since the step before.
    """

    position: int
    event_id: str
    action: str
    actor: Actor
    previous_state: str | None
    new_state: str | None
    reason: str | None
    details: dict[str, Any]
    private: dict[str, Any]
    erased: bool
    service: str
    correlation_id: str
    causation_id: str
    occurred_at: datetime
    after_s: float | None
    leaf_index: int | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as usual. `position`: of the step it follows, where there is one. `source`: whence the limit is."""

    name: str
    severity: Severity
    words: str
    position: int | None = None
    seconds: float | None = None
    limit_s: float | None = None
    source: str = ""


class ChainCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One chain, computed again from position 1: how many events, whether each links to the one before, and to the head.

    `not_at_hand`: events that are in the archive, or in a ledger that is away; they were not checked.
    """

    chain: str
    checked: int
    head_position: int
    head_matches: bool
    broken_at: int | None
    why: str | None
    first_leaf: int | None
    last_leaf: int | None
    not_in_the_log_yet: int
    not_at_hand: int = 0


class Integrity(msgspec.Struct, frozen=True, kw_only=True):
    """What of the record was checked just now, and what could not be.

    `held`: all of it was checked and held; null where some of it is not at hand. `checkpoint_size`: of the first signed checkpoint that covers all of the order's leaves.
    `set_aside`: events that did not fit their chain. `copies_agree`: the orders' own copy has the same bytes as the log.
    """

    held: bool | None
    words: str
    order: ChainCheck
    looks: ChainCheck | None
    copies_agree: bool | None
    set_aside: list[str]
    checkpoint_size: int | None
    checkpoint_at: datetime | None
    log_size: int | None
    not_checked: list[str]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A message about the order that failed, and what became of it. `fate` in words."""

    letter_id: str
    type: str
    consumer: str
    failure_type: str
    error: str
    message: str
    state: str
    resolution: str | None
    resolved_by: str | None
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    fate: str


class HeldFact(msgspec.Struct, frozen=True, kw_only=True):
    """A fact of the order that a stream holds back."""

    group: str
    position: int | None
    kind: str
    reason: str
    held_at: datetime
    parked: bool


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody outside said, and when."""

    at: datetime
    said: str


class MoneyMove(msgspec.Struct, frozen=True, kw_only=True):
    """Money that moved: in (captured) or out (refunded), in minor units."""

    at: datetime
    direction: Literal["in", "out"]
    amount_minor: int
    reason: str
    reference: str


class MoneyTold(msgspec.Struct, frozen=True, kw_only=True):
    """The order's money: what came in, went out, is on its way out, and is left. `adds_up`: the events say what the order says."""

    currency: str
    total: int
    captured: int
    refunded: int
    on_its_way_out: int
    left: int
    moves: list[MoneyMove]
    adds_up: bool


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the order went, or that it was erased."""

    street: str
    city: str
    postal_code: str
    latitude: float
    longitude: float
    erased: bool = False


class DisputeTold(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute of the order, with what people said in it where it can still be read."""

    dispute_id: str
    kind: str
    state: str
    opened_by: str
    opened_at: datetime
    assigned_to: str | None
    reason: str | None
    amount: int | None
    resolved_by: str | None
    resolved_at: datetime | None
    evidence: int


class OrderTold(msgspec.Struct, frozen=True, kw_only=True):
    """The order as it is now."""

    order_id: str
    customer_id: str
    restaurant_id: str
    driver_id: str | None
    past_restaurants: list[str]
    past_drivers: list[str]
    city: str
    state: str
    money: str
    reason: str | None
    position: int
    items: list[dict[str, Any]]
    item_count: int
    subtotal: int
    delivery_fee: int
    total: int
    currency: str
    payment_intent_id: str | None
    payment_attempt: int
    address: Place
    placed_at: datetime
    updated_at: datetime
    waits_for: str | None
    waits_until: datetime | None
    pending: list[str]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody read about this order, or somebody's deed elsewhere was about it."""

    at: datetime
    action: str
    actor: Actor
    details: dict[str, Any]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """What most likely went wrong: `name` is one of a list, `words` for whoever is on the phone. `why`: what it rests on."""

    name: str
    words: str
    why: list[str] = []


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that happened to the order, and what of it is not as usual."""

    order_id: str
    steps: list[Step]
    findings: list[Finding]
    not_checked: list[str]


class IntegrityOf(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the record of one order holds."""

    order_id: str
    integrity: Integrity


class Investigation(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known about one order."""

    order: OrderTold
    summary: str
    likely_cause: Cause
    timeline: list[Step]
    findings: list[Finding]
    integrity: Integrity
    failures: list[Failure]
    held_facts: list[HeldFact]
    provider: list[Answer]
    restaurant: list[Answer]
    money: MoneyTold
    disputes: list[DisputeTold]
    looks: list[Look]
    investigated_at: datetime
