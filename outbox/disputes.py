"""The only place where disputes are opened, assigned, argued and resolved: each with its step of the order, in one transaction.

What people say about a customer is encrypted with the customer's key, in the tables as in the audit trail.
"""

from datetime import datetime
from typing import Any, Final

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Executor, UniqueViolation
from orders.decide import Cause, Wait, Wish, decide
from orders.disputes import REASON_OF, DisputeKind, DisputeState, Refusal, amount_back
from orders.errors import NotFound, Refuse
from orders.ids import new_id
from orders.lifecycle import Action
from orders.order import Order
from orders.privacy import conceal
from outbox import disputes_sql as sql
from outbox import metrics
from outbox.letters.recording import in_one_transaction
from outbox.letters.searching_sql import PLAN_FOR_VALUES
from outbox.personal_keys import key_of
from outbox.transition import apply, load

MOST_EVIDENCE: Final = 50
ASSIGNED: Final = "dispute_assigned"
EVIDENCE: Final = "dispute_evidence"


class NoSuchDispute(NotFound):
    """There is no dispute with this id."""

    slug = "dispute-not-found"


class DisputeOpen(Refuse):
    """The order has a dispute that is not resolved yet."""

    slug = "dispute-open"


class DisputeResolved(Refuse):
    """The dispute has come to its end. Nothing more can be said in it, and it is not resolved twice."""

    slug = "dispute-resolved"


class DisputeMoved(Refuse):
    """Somebody else has changed the dispute since it was read."""

    slug = "dispute-moved"


class EvidenceFull(Refuse):
    """No dispute needs so much."""

    slug = "evidence-full"


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as its row tells it. `claim` and `answer`: {data, key_id}."""

    dispute_id: str
    order_id: str
    customer_id: str
    kind: DisputeKind
    state: DisputeState
    currency: str
    claim: dict[str, str] | None
    opened_by: str
    opened_at: datetime
    assigned_to: str | None = None
    assigned_at: datetime | None = None
    reason: str | None = None
    amount: int | None = None
    answer: dict[str, str] | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    version: int = 1


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was brought forward. `personal`: {data, key_id}."""

    evidence_id: str
    dispute_id: str
    number: int
    personal: dict[str, str] | None
    sha256: str | None
    added_by: str
    added_at: datetime


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which disputes are meant."""

    state: DisputeState | None = None
    kind: DisputeKind | None = None
    assigned_to: str | None = None
    order_id: str | None = None
    customer_id: str | None = None


async def open_dispute(
    db: Executor, order_id: str, kind: DisputeKind, claim: str, cause: Cause, wait: Wait, now: datetime
) -> Dispute:
    """Open a dispute of an order that has ended. Raises `NotFound`, `NotAllowed`, `DisputeOpen`, `DatabaseUnavailable`."""
    dispute_id = new_id("dsp", round(now.timestamp() * 1000))

    async def deed(conn: Connection) -> Dispute:
        order, _ = await load(conn, order_id)
        key = await key_of(conn, order.customer_id)
        wish = Wish(
            action=Action.OPEN_DISPUTE, reason=kind.value, data={"dispute_id": dispute_id, "kind": kind.value},
            private={"claim": claim}, key=key,
        )  # fmt: skip
        await apply(conn, decide(order, wish, cause, now, wait))
        sealed = conceal(key, claim_of(dispute_id), 1, {"text": claim})
        try:
            await conn.execute(
                sql.OPEN, dispute_id, order_id, order.customer_id, kind.value, order.currency, sealed, cause.actor.id, now
            )
        except UniqueViolation as error:
            raise DisputeOpen(f"{order_id} has a dispute that is not resolved yet: resolve it first") from error
        return await show(conn, dispute_id)

    opened = await in_one_transaction(db, deed)
    metrics.DISPUTES_OPENED.labels(kind.value).inc()
    return opened


async def assign(
    db: Executor, dispute_id: str, to: str, cause: Cause, wait: Wait, now: datetime, version: int | None = None
) -> Dispute:
    """Say whose business it is. Raises `NoSuchDispute`, `DisputeResolved`, `DisputeMoved`, `DatabaseUnavailable`."""

    async def deed(conn: Connection) -> Dispute:
        known, order = await _known(conn, dispute_id)
        data = {"act": ASSIGNED, "dispute_id": dispute_id, "assigned_to": to}
        await apply(conn, decide(order, Wish(action=Action.INTERVENE, reason=ASSIGNED, data=data), cause, now, wait))
        await _held(conn, known, version)
        await conn.execute(sql.ASSIGN, dispute_id, to, now)
        return await show(conn, dispute_id)

    return await in_one_transaction(db, deed)


async def attach(
    db: Executor, dispute_id: str, said: dict[str, str], sha256: str | None, cause: Cause, wait: Wait, now: datetime
) -> Evidence:
    """Add evidence: words, or where something is kept and its digest. Raises as `assign`, and `EvidenceFull`."""
    evidence_id = new_id("evi", round(now.timestamp() * 1000))

    async def deed(conn: Connection) -> Evidence:
        known, order = await _known(conn, dispute_id)
        key = await key_of(conn, known.customer_id)
        data = {"act": EVIDENCE, "dispute_id": dispute_id, "evidence_id": evidence_id}
        if sha256:
            data["sha256"] = sha256
        wish = Wish(action=Action.INTERVENE, reason=EVIDENCE, data=data, private=said, key=key)
        await apply(conn, decide(order, wish, cause, now, wait))
        await _held(conn, known, None)
        number = int(await conn.fetchval(sql.COUNT, dispute_id)) + 1
        if number > MOST_EVIDENCE:
            raise EvidenceFull(f"{dispute_id} has {MOST_EVIDENCE} pieces of evidence: resolve it")
        sealed = conceal(key, evidence_of(dispute_id), number, said)
        await conn.execute(sql.ATTACH, evidence_id, dispute_id, number, sealed, sha256, cause.actor.id, now)
        return Evidence(
            evidence_id=evidence_id, dispute_id=dispute_id, number=number, personal=sealed, sha256=sha256,
            added_by=cause.actor.id, added_at=now,
        )  # fmt: skip

    return await in_one_transaction(db, deed)


async def refund(
    db: Executor, dispute_id: str, amount: int | None, answer: str, cause: Cause, wait: Wait, now: datetime,
    version: int | None = None,
) -> Dispute:  # fmt: skip
    """Give money back, all that is due or this amount, by the saga that gives back everything else.

    Raises `NoSuchDispute`, `DisputeResolved`, `DisputeMoved`, `RefundAboveRest`, `DatabaseUnavailable`.
    """

    def wish(known: Dispute, order: Order) -> tuple[Wish, int | None]:
        back, reason = amount_back(order, known.kind, amount), REASON_OF[known.kind]
        data = {"dispute_id": dispute_id, "resolution": DisputeState.REFUNDED.value, "amount": back}
        return Wish(
            action=Action.RESOLVE_DISPUTE, reason=reason, data=data, refund={"reason": reason, "amount": back}
        ), back  # fmt: skip

    return await _resolve(db, dispute_id, DisputeState.REFUNDED, wish, answer, cause, wait, now, version)


async def refuse(
    db: Executor, dispute_id: str, why: Refusal, answer: str, cause: Cause, wait: Wait, now: datetime,
    version: int | None = None,
) -> Dispute:  # fmt: skip
    """Give nothing back, and say why. Raises `NoSuchDispute`, `DisputeResolved`, `DisputeMoved`, `DatabaseUnavailable`."""
    data = {"dispute_id": dispute_id, "resolution": DisputeState.REFUSED.value}
    wish = Wish(action=Action.RESOLVE_DISPUTE, reason=why.value, data=data)
    return await _resolve(
        db, dispute_id, DisputeState.REFUSED, lambda _known, _order: (wish, None), answer, cause, wait, now, version
    )


async def _resolve(
    db: Executor, dispute_id: str, state: DisputeState, wished: Any, answer: str, cause: Cause, wait: Wait, now: datetime,
    version: int | None,
) -> Dispute:  # fmt: skip
    async def deed(conn: Connection) -> Dispute:
        known, order = await _known(conn, dispute_id)
        key = await key_of(conn, known.customer_id)
        wish, amount = wished(known, order)
        wish = msgspec.structs.replace(wish, private={"answer": answer}, key=key)
        await apply(conn, decide(order, wish, cause, now, wait))
        await _held(conn, known, version)
        sealed = conceal(key, answer_of(dispute_id), 1, {"text": answer})
        await conn.execute(sql.RESOLVE, dispute_id, state.value, wish.reason, amount, sealed, cause.actor.id, now)
        return await show(conn, dispute_id)

    resolved = await in_one_transaction(db, deed)
    metrics.DISPUTES_RESOLVED.labels(state.value).inc()
    return resolved


async def show(db: Executor, dispute_id: str) -> Dispute:
    """A dispute. Raises `NoSuchDispute`, `DatabaseUnavailable`."""
    try:
        row = await db.fetchrow(sql.READ, dispute_id)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the dispute cannot be read: {error}") from error
    return _dispute(row, dispute_id)


async def list_disputes(conn: Connection, wanted: Filter, *, before: tuple[datetime, str], limit: int) -> list[Dispute]:
    """Disputes, newest first; in the caller's transaction, so that the plan is made for these values."""
    await conn.execute(PLAN_FOR_VALUES)
    rows = await conn.fetch(
        sql.LIST, *before, wanted.state and wanted.state.value, wanted.kind and wanted.kind.value, wanted.assigned_to,
        wanted.order_id, wanted.customer_id, limit,
    )  # fmt: skip
    return [msgspec.convert(dict(row), Dispute) for row in rows]


async def evidence(db: Executor, dispute_ids: list[str]) -> list[Evidence]:
    """What was brought forward in these disputes, in order."""
    return [msgspec.convert(dict(row), Evidence) for row in await db.fetch(sql.EVIDENCE, dispute_ids)]


def claim_of(dispute_id: str) -> str:
    """The place that a claim is bound to, so that no ciphertext can be moved to another dispute."""
    return f"{dispute_id}.claim"


def answer_of(dispute_id: str) -> str:
    return f"{dispute_id}.answer"


def evidence_of(dispute_id: str) -> str:
    return f"{dispute_id}.evidence"


async def _known(conn: Connection, dispute_id: str) -> tuple[Dispute, Order]:
    """An open dispute and its order, which is moved first: orders are locked before anything else, everywhere."""
    known = await show(conn, dispute_id)
    _still_open(known, None)
    order, _ = await load(conn, known.order_id)
    return known, order


async def _held(conn: Connection, known: Dispute, version: int | None) -> None:
    """Hold the dispute; somebody may have been faster."""
    _still_open(_dispute(await conn.fetchrow(sql.HOLD, known.dispute_id), known.dispute_id), version)


def _still_open(dispute: Dispute, version: int | None) -> None:
    if dispute.state is not DisputeState.OPEN:
        raise DisputeResolved(f"{dispute.dispute_id} was {dispute.state.value} by {dispute.resolved_by}")
    if version is not None and version != dispute.version:
        raise DisputeMoved(f"{dispute.dispute_id} is at version {dispute.version}, not {version}: read it again, then decide")


def _dispute(row: Any, dispute_id: str) -> Dispute:
    if row is None:
        raise NoSuchDispute(f"there is no dispute {dispute_id}")
    return msgspec.convert(dict(row), Dispute)
