"""The only place that writes into the audit trail what is no step of an order: looks, searches, changed rules, granted roles.

Each deed is an outbox row in the caller's transaction: neither is ever there without the other. Its chain is not the order's
own, so that reading an order never makes a worker lose a race.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from adapters.postgres import Connection
from orders import chain
from orders.decide import Cause
from orders.envelope import TRACEPARENT, Broker, OutboxRow, trace_id
from orders.ids import derived_id
from orders.names import AUDIT_TOPIC, Act
from orders.privacy import PersonalKey, conceal
from outbox import deeds_sql as sql
from outbox.transition import enqueue

_SCHEMA_VERSION: Final = 1
_LOOKS: Final = ".looks"
_DESK: Final = "desk."


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done or looked at. `chain`: see `looks_at` and `desk_of`. `details` hold nothing personal; what is
    personal stands in `private`, encrypted with its customer's `key`.
    """

    act: Act
    chain: str
    order_id: str | None = None
    reason: str | None = None
    details: dict[str, Any] = {}
    private: dict[str, Any] = {}
    key: PersonalKey | None = None


def looks_at(order_id: str) -> str:
    """The chain of what was read of an order."""
    return order_id + _LOOKS


def desk_of(who: str) -> str:
    """The chain of what somebody (or a rule) did that is about no single order."""
    return _DESK + who


async def record(conn: Connection, deeds: Sequence[Deed], cause: Cause, now: datetime) -> None:
    """Append these deeds to their chains, in the caller's transaction. Chains are locked in the order of their names.

    Raises `chain.NotCanonicalError` for details that are too large or hold what has no canonical form.
    """
    rows: list[OutboxRow] = []
    for of_chain in sorted({deed.chain for deed in deeds}):
        head = await conn.fetchrow(sql.LOCK_CHAIN, of_chain, chain.GENESIS)
        assert head is not None
        position, link = int(head["position"]), str(head["head"])
        for deed in (each for each in deeds if each.chain == of_chain):
            position += 1
            link, row = _sealed(deed, cause, position, link, now)
            rows.append(row)
        await conn.execute(sql.MOVE_CHAIN, of_chain, position, link)
    await enqueue(conn, rows)


def _sealed(deed: Deed, cause: Cause, position: int, prev_hash: str, now: datetime) -> tuple[str, OutboxRow]:
    event_id = derived_id("aud", deed.chain, position, deed.act.value)
    event: dict[str, Any] = {
        "v": _SCHEMA_VERSION, "event_id": event_id, "chain": deed.chain, "order_id": deed.order_id, "position": position,
        "action": deed.act.value, "actor": {"type": cause.actor.type.value, "id": cause.actor.id},
        "reason": deed.reason, "details": msgspec.to_builtins(deed.details), "service": cause.service,
        "correlation_id": trace_id(cause.traceparent), "causation_id": cause.id, "occurred_at": now.isoformat(),
    }  # fmt: skip
    if deed.private:
        if deed.key is None:
            raise ValueError("personal data goes into the audit trail with its customer's key, or not at all")
        event["personal"] = conceal(deed.key, deed.chain, position, deed.private)
    digest, body = chain.seal(event, prev_hash)
    row = OutboxRow(
        event_id=event_id, aggregate_type="chain", aggregate_id=deed.chain, position=position, type=deed.act.value,
        schema_version=_SCHEMA_VERSION, body=body,
        headers={TRACEPARENT: cause.traceparent, "causationid": cause.id, "correlationid": trace_id(cause.traceparent)},
        broker=Broker.KAFKA, destination=AUDIT_TOPIC, occurred_at=now,
    )  # fmt: skip
    return digest, row
