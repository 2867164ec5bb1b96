"""The only place that makes an investigation of what was gathered about an order: timeline, findings, integrity, money, cause. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from audit.events import LOOKS
from audit.investigation import chains as investigation_chain
from audit.investigation.causes import Case, likely_cause, summary
from audit.investigation.delays import Limits, delays, gaps, refund_outstanding
from audit.investigation.material import AuditEvent, Leaf, Material
from audit.investigation.model import (
    DisputeTold,
    Failure,
    Finding,
    HeldFact,
    Integrity,
    Investigation,
    Look,
    MoneyTold,
    OrderTold,
    Place,
    Step,
    Timeline,
)
from audit.investigation.money import money_of, provider_said, restaurant_said
from orders.errors import CallAnOperator
from orders.names import FINAL, State
from orders.order import Order
from orders.privacy import PersonalKey, reveal

_NOT_FOOD: Final = frozenset({State.CANCELLED, State.PAYMENT_FAILED})
_ERASED: Final = "erased"


def investigate(material: Material, now: datetime, limits: Limits) -> Investigation:
    """Everything that is known about one order."""
    order: Order = material.order
    integrity, steps = investigation_chain.check(material), timeline(material)
    failures = [_failure(each) for each in material.failures]
    money = money_of(order, steps)
    findings = _findings(material, steps, money, now, limits)
    disputes = [msgspec.convert(each, DisputeTold) for each in material.disputes]
    case = Case(
        order=order, steps=steps, findings=findings, failures=failures, money=money, integrity=integrity, disputes=disputes
    )
    cause = likely_cause(case)
    return Investigation(
        order=_told(order, steps), summary=summary(case, cause), likely_cause=cause, timeline=steps, findings=findings,
        integrity=integrity, failures=failures, held_facts=[msgspec.convert(each, HeldFact) for each in material.held],
        provider=provider_said(steps, failures), restaurant=restaurant_said(steps, failures), money=money, disputes=disputes,
        looks=_looks(material), investigated_at=now,
    )  # fmt: skip


def timeline_of(material: Material, now: datetime, limits: Limits) -> Timeline:
    """What happened, and what of it is not as usual."""
    order, steps = material.order, timeline(material)
    findings = _findings(material, steps, money_of(order, steps), now, limits)
    missing = [f"the ledger: {material.away}"] if material.ledger is None else []
    if material.elsewhere and len(steps) < order.position:
        missing.append(f"{order.position - len(steps)} events are in {material.elsewhere}")
    return Timeline(order_id=order.order_id, steps=steps, findings=findings, not_checked=missing)


def integrity_of(material: Material) -> Integrity:
    """Whether the record of the order holds."""
    return investigation_chain.check(material)


def timeline(material: Material) -> list[Step]:
    """The steps of the order, in order. What is no event is left to the integrity to name."""
    steps: list[Step] = []
    for leaf in investigation_chain.merged(material):
        try:
            event = investigation_chain.read(leaf)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            continue
        steps.append(_step(event, leaf, material.keys, steps[-1] if steps else None))
    return steps


def _step(event: AuditEvent, leaf: Leaf, keys: Mapping[str, bytes | None], before: Step | None) -> Step:
    private, erased = opened(event.chain or event.order_id or "", event.position, event.personal, keys)
    return Step(
        position=event.position, event_id=event.event_id, action=event.action, actor=event.actor,
        previous_state=event.previous_state, new_state=event.new_state, reason=event.reason, details=event.details,
        private=private, erased=erased, service=event.service, correlation_id=event.correlation_id,
        causation_id=event.causation_id, occurred_at=event.occurred_at,
        after_s=round((event.occurred_at - before.occurred_at).total_seconds(), 3) if before else None, leaf_index=leaf.leaf_index,
    )  # fmt: skip


def opened(
    of_chain: str, position: int, personal: Mapping[str, str] | None, keys: Mapping[str, bytes | None]
) -> tuple[dict[str, Any], bool]:
    """What is encrypted at this place, and whether its key was destroyed."""
    if not personal:
        return {}, False
    key_id = str(personal.get("key_id", ""))
    key = keys.get(key_id)
    if key is None:
        return {}, key_id in keys
    try:
        return reveal(PersonalKey(key_id, key), of_chain, position, personal), False
    except CallAnOperator:
        return {"unreadable": "what stands here is not what was written"}, False


def _findings(material: Material, steps: Sequence[Step], money: MoneyTold, now: datetime, limits: Limits) -> list[Finding]:
    """What is not as usual. Where events are not at hand, nothing is concluded from what is not there."""
    order: Order = material.order
    partial = bool(material.elsewhere) and len(steps) < order.position
    ended = next((step.occurred_at for step in steps if step.new_state in FINAL), None)
    owed = refund_outstanding(
        money.left + money.on_its_way_out, owed=order.state in _NOT_FOOD, since=ended, now=now, limits=limits
    )  # fmt: skip
    found = [*owed] if partial else [*gaps(steps), *delays(steps, now, limits), *owed]
    if steps and not money.adds_up and not partial:
        words = f"the steps say otherwise than the order: {order.captured} captured and {order.refunded} refunded stand with it"
        found.append(Finding(name="money_differs", severity="broken", words=words))
    return sorted(found, key=lambda each: each.position or order.position + 1)


def _failure(row: Mapping[str, Any]) -> Failure:
    match row["state"]:
        case "open":
            fate = "nobody has dealt with it yet"
        case "replaying":
            fate = "it was sent again and is under way"
        case "discarded":
            fate = f"{row['resolved_by']} put it away: {row['resolution']}"
        case _:
            fate = f"{row['resolution']}, by {row['resolved_by']}"
    return msgspec.convert({**row, "fate": fate}, Failure)


def _told(order: Order, steps: Sequence[Step]) -> OrderTold:
    return OrderTold(
        order_id=order.order_id, customer_id=order.customer_id, restaurant_id=order.restaurant_id, driver_id=order.driver_id,
        past_restaurants=list(order.past_restaurants), past_drivers=list(order.past_drivers), city=order.city,
        state=order.state.value, money=order.money.value, reason=order.reason, position=order.position,
        items=[msgspec.to_builtins(line) for line in order.items], item_count=order.item_count, subtotal=order.subtotal,
        delivery_fee=order.delivery_fee, total=order.total, currency=order.currency,
        payment_intent_id=order.payment_intent_id, payment_attempt=order.payment_attempt, address=_place(order, steps),
        placed_at=order.placed_at, updated_at=order.updated_at, waits_for=order.deadline and order.deadline.value,
        waits_until=order.deadline_at, pending=sorted(entry.type for entry in order.pending.values()),
    )  # fmt: skip


def _place(order: Order, steps: Sequence[Step]) -> Place:
    """As the record has it, under the customer's key; from the order where the record cannot be reached."""
    placed = next((step for step in steps if step.action == "order.placed"), None)
    if placed is not None and placed.erased:
        return Place(street=_ERASED, city=_ERASED, postal_code=_ERASED, latitude=0.0, longitude=0.0, erased=True)
    given = placed.private.get("address") if placed else None
    found = msgspec.convert(given or msgspec.to_builtins(order.address), Place)
    return msgspec.structs.replace(found, erased=(found.street, found.postal_code) == (_ERASED, _ERASED))


def _looks(material: Material) -> list[Look]:
    if material.ledger is None:
        return []
    name, found = material.order.order_id + LOOKS, []
    for leaf in material.ledger.leaves:
        if leaf.chain == name:
            event = investigation_chain.read(leaf)
            found.append(Look(at=event.occurred_at, action=event.action, actor=event.actor, details=event.details))
    return found
