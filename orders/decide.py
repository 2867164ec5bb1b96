"""The only place that computes a change: from an order and a wish to the new order, its events, hashes and commands.

Pure: time, actor and cause are arguments, so the same wish on the same order always makes the same bytes.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from orders import chain, commands, facts
from orders.envelope import TRACEPARENT, Broker, OutboxRow, trace_id
from orders.errors import NotAllowed
from orders.facts import Actor
from orders.failures import FailureType
from orders.ids import derived_id
from orders.lifecycle import PLACE, Action, Deadline, Row, failure_of, row_for
from orders.names import FINAL, PRIORITY, Command, Fact, Role, State, audit_action
from orders.order import Order, Pending
from orders.privacy import PersonalKey, conceal

Wait = Callable[[Deadline], timedelta]
_JSON: Final = msgspec.json.Encoder(order="deterministic")
_PERSONAL: Final = frozenset({"address"})  # never into the audit trail in clear
_OUTLIVES_ITS_STAGE: Final = frozenset({Command.PAYMENT_REFUND, Command.RESTAURANT_CANCEL})


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is done. `id`: of the command or request. `command`: the type handled, if it is one."""

    id: str
    actor: Actor
    service: str
    traceparent: str = ""
    command: Command | None = None
    last: bool = True  # False: the command goes on after this change


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done to an order.

    `data` goes into the fact and the audit event, `changes` into the order; `refund` issues one more command; `values`
    fills the bodies of the commands that the row issues. `private`: personal data for the audit event alone, encrypted with
    the customer's `key`.
    """

    action: Action
    reason: str | None = None
    data: dict[str, Any] = {}
    private: dict[str, Any] = {}
    key: PersonalKey | None = None
    changes: dict[str, Any] = {}
    refund: dict[str, Any] | None = None
    values: dict[str, Any] = {}
    take_driver: str | None = None
    free_driver: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one order, at one position, as both topics will carry it."""

    position: int
    event_id: str
    audit_id: str
    type: Fact
    action: str
    fact: bytes
    audit: bytes


class Failure(msgspec.Struct, frozen=True):
    """What went wrong with the order, which the same change answers. `service`: who answered."""

    type: FailureType
    reason: str
    service: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """All that one transition writes, or none of it. `failure` is told by the first of the events."""

    order: Order
    expected: int
    events: tuple[Event, ...]
    commands: tuple[OutboxRow, ...]
    headers: dict[str, str]
    take_driver: str | None = None
    free_driver: str | None = None
    failure: Failure | None = None


def decide(order: Order, wish: Wish, cause: Cause, now: datetime, wait: Wait) -> Change:
    """The change that grants the wish. Raises `NotAllowed` where the lifecycle has no such row."""
    row = PLACE if wish.action is Action.PLACE else row_for(wish.action, order.state)
    if cause.actor.type not in row.by or (row is PLACE) != (order.position == 0):
        raise NotAllowed(wish.action.value, order.state.value)
    headers = {TRACEPARENT: cause.traceparent, "causationid": cause.id, "correlationid": trace_id(order.traceparent)}
    target = row.to or order.state
    changed = msgspec.structs.replace(
        order, **wish.changes, state=target, reason=wish.reason if row.to and wish.reason else order.reason, updated_at=now
    )
    events, changed = _events(order.state if order.position else None, changed, row, wish, cause, now)
    issued = _commands(changed, row, wish)
    pending = _still_pending(order, row, cause) | {key: entry for key, entry, _ in issued}
    deadline, until, since = _deadline(order, row, pending, changed.position, now, wait)
    failure = failure_of(row.action, wish.reason)
    return Change(
        order=msgspec.structs.replace(changed, pending=pending, deadline=deadline, deadline_at=until, deadline_position=since),
        expected=order.position,
        events=events,
        commands=tuple(command_row(key, entry, priority, headers, now) for key, entry, priority in issued),
        headers=headers,
        take_driver=wish.take_driver,
        free_driver=wish.free_driver or (order.driver_id if target in FINAL and row.to else None),
        failure=Failure(failure, wish.reason or failure.value, cause.service) if failure else None,
    )


def _events(
    previous: State | None, order: Order, row: Row, wish: Wish, cause: Cause, now: datetime
) -> tuple[tuple[Event, ...], Order]:
    events: list[Event] = []
    position, head = order.position, order.chain_head
    for fact in row.facts:
        position += 1
        event_id, audit_id = (derived_id(p, order.order_id, position, fact.value) for p in ("evt", "aud"))
        data = {name: wish.data[name] for name in facts.DATA.get(fact, ()) if name in wish.data}
        body = facts.FactBody(
            order_id=order.order_id, type=fact, position=position, occurred_at=now,
            previous_state=previous, state=order.state, customer_id=order.customer_id, restaurant_id=order.restaurant_id,
            city=order.city, driver_id=order.driver_id, currency=order.currency, total=order.total,
            reason=wish.reason, actor=cause.actor, data=data,
        )  # fmt: skip
        head, audit = _audit(order, body, (event_id, audit_id), wish, cause, head)
        previous = order.state
        events.append(
            Event(
                position=position, event_id=event_id, audit_id=audit_id, type=fact, action=audit_action(fact),
                fact=_JSON.encode(body), audit=audit,
            )
        )  # fmt: skip
    return tuple(events), msgspec.structs.replace(order, position=position, chain_head=head)


def _audit(order: Order, fact: facts.FactBody, ids: tuple[str, str], wish: Wish, cause: Cause, head: str) -> tuple[str, bytes]:
    return chain.seal(
        {
            "v": 1,
            "event_id": ids[1],
            "fact_id": ids[0],
            "order_id": order.order_id,
            "position": fact.position,
            "action": audit_action(fact.type),
            "actor": {"type": cause.actor.type.value, "id": cause.actor.id},
            "previous_state": fact.previous_state,
            "new_state": order.state.value,
            "reason": wish.reason,
            "details": {k: msgspec.to_builtins(v) for k, v in fact.data.items() if k not in _PERSONAL},
            "service": cause.service,
            "correlation_id": trace_id(order.traceparent),
            "causation_id": cause.id,
            "occurred_at": fact.occurred_at.isoformat(),
            **_personal(order, fact, wish),
        },
        head,
    )


def _personal(order: Order, fact: facts.FactBody, wish: Wish) -> dict[str, dict[str, str]]:
    """Once, with the first of the events."""
    if not wish.private or fact.position != order.position + 1:
        return {}
    if wish.key is None:
        raise ValueError("personal data goes into the audit trail with its customer's key, or not at all")
    return {"personal": conceal(wish.key, order.order_id, fact.position, wish.private)}


def _commands(order: Order, row: Row, wish: Wish) -> list[tuple[str, Pending, int]]:
    values = {
        "order_id": order.order_id,
        "position": order.position,
        "restaurant_id": order.restaurant_id,
        "driver_id": wish.free_driver or order.driver_id,
        "reason": wish.reason or "",
        **wish.values,
    }
    wanted = [(kind, {**values, "reason": "cancelled"} if kind is Command.PAYMENT_REFUND else values) for kind in row.commands]
    if wish.refund:
        wanted.append((Command.PAYMENT_REFUND, {**values, **wish.refund}))
    issued = []
    for kind, given in wanted:
        if kind is Command.DRIVER_RELEASE and not given["driver_id"]:
            continue
        key = commands.command_id(order.order_id, order.position, kind)
        issued.append((key, Pending(kind.value, commands.command_body(kind, given)), PRIORITY[kind]))
    return issued


def _still_pending(order: Order, row: Row, cause: Cause) -> dict[str, Pending]:
    kept = order.pending
    if row.to is not None:
        kept = {k: p for k, p in kept.items() if p.type in _OUTLIVES_ITS_STAGE or k == cause.id}
    return {k: p for k, p in kept.items() if not (cause.last and k == cause.id)}


def _deadline(
    order: Order, row: Row, pending: dict[str, Pending], position: int, now: datetime, wait: Wait
) -> tuple[Deadline | None, datetime | None, int | None]:
    """What the order waits for now, until when, and since which of its events."""
    kind = row.deadline if row.to is not None or row.deadline else order.deadline
    if kind in (None, Deadline.STUCK):
        kind = Deadline.STUCK if pending else None
    if kind is None:
        return None, None, None
    if kind is order.deadline and row.to is None:
        return kind, order.deadline_at, order.deadline_position
    return kind, now + wait(kind), position


def command_row(key: str, entry: Pending, priority: int, headers: dict[str, str], now: datetime) -> OutboxRow:
    """The outbox row of a command. The same key and body, whoever issues it and however often."""
    return OutboxRow(
        event_id=key,
        aggregate_id=entry.body["order_id"],
        position=entry.body["position"],
        type=entry.type,
        schema_version=commands.SCHEMA_VERSION,
        body=_JSON.encode(entry.body),
        headers=headers,
        broker=Broker.RABBITMQ,
        destination=entry.type,
        priority=priority,
        occurred_at=now,
    )


def system(service: str) -> Actor:
    """The system as an actor."""
    return Actor(Role.SYSTEM, service)
