"""The only place for the shapes of what support is shown beside investigations: search results, disputes, audit events."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from adapters.postgres import Record
from audit.investigation.telling import opened
from outbox import disputes
from outbox.disputes import Dispute, Evidence

if TYPE_CHECKING:
    from audit.archive.parquet import Stored

_EVENT: Final = msgspec.json.Decoder(dict[str, Any])
Keys = Mapping[str, bytes | None]


class FoundOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order in a search: what the facts told so far. Seconds behind the order itself."""

    order_id: str
    customer_id: str
    restaurant_id: str
    driver_id: str | None
    city: str
    state: str
    reason: str | None
    currency: str
    total: int
    captured: int
    refunded: int
    position: int
    last_fact: str
    flagged: bool
    disputed: bool
    placed_at: datetime
    picked_up_at: datetime | None
    delivered_at: datetime | None
    ended_at: datetime | None
    updated_at: datetime


class FoundOrders(msgspec.Struct, frozen=True, kw_only=True):
    """A page of orders, newest first. `next_cursor` is null on the last."""

    orders: list[FoundOrder]
    next_cursor: str | None


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An audit event as it stands in the log. What is personal in it stays encrypted here."""

    leaf_index: int
    chain: str
    position: int
    event_id: str
    occurred_at: datetime
    event: dict[str, Any]


class AuditEntries(msgspec.Struct, frozen=True, kw_only=True):
    """A page of audit events, newest first. `next_cursor` is null on the last. `missing`: files of the archive that cannot be read,
    so that events of theirs may be missing here.
    """

    events: list[AuditEntry]
    next_cursor: str | None
    missing: list[str] = []


class EvidenceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was brought forward. `said`: text, or a reference; empty where it was `erased`."""

    evidence_id: str
    number: int
    said: dict[str, str]
    erased: bool
    sha256: str | None
    added_by: str
    added_at: datetime


class DisputeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute. `claim` and `answer`: what people said, null where nothing was or where it was `erased`."""

    dispute_id: str
    order_id: str
    customer_id: str
    kind: str
    state: str
    claim: str | None
    erased: bool
    opened_by: str
    opened_at: datetime
    assigned_to: str | None
    assigned_at: datetime | None
    reason: str | None
    amount: int | None
    currency: str
    answer: str | None
    resolved_by: str | None
    resolved_at: datetime | None
    version: int
    evidence: list[EvidenceAnswer]


class Disputes(msgspec.Struct, frozen=True, kw_only=True):
    """A page of disputes, newest first. `next_cursor` is null on the last."""

    disputes: list[DisputeAnswer]
    next_cursor: str | None


class Intervened(msgspec.Struct, frozen=True, kw_only=True):
    """The order after an intervention."""

    order_id: str
    status: str
    position: int


def found_order(row: Record) -> FoundOrder:
    return msgspec.convert(dict(row), FoundOrder)


def audit_entry(row: Record) -> AuditEntry:
    return AuditEntry(
        leaf_index=row["leaf_index"], chain=row["chain"], position=row["position"], event_id=row["event_id"],
        occurred_at=row["occurred_at"], event=_EVENT.decode(row["body"]),
    )  # fmt: skip


def archived_entry(event: "Stored") -> AuditEntry:
    told = _EVENT.decode(event.body)
    return AuditEntry(
        leaf_index=event.leaf_index, chain=event.chain, position=event.position, event_id=str(told["event_id"]),
        occurred_at=datetime.fromisoformat(str(told["occurred_at"])), event=told,
    )  # fmt: skip


def dispute_answer(dispute: Dispute, brought: Sequence[Evidence], keys: Keys) -> DisputeAnswer:
    """A dispute with what people said in it, where it can still be read."""
    dispute_id = dispute.dispute_id
    claim, erased = opened(disputes.claim_of(dispute_id), 1, dispute.claim, keys)
    answer, _ = opened(disputes.answer_of(dispute_id), 1, dispute.answer, keys)
    return DisputeAnswer(
        dispute_id=dispute_id, order_id=dispute.order_id, customer_id=dispute.customer_id, kind=dispute.kind.value,
        state=dispute.state.value, claim=claim.get("text"), erased=erased, opened_by=dispute.opened_by,
        opened_at=dispute.opened_at, assigned_to=dispute.assigned_to, assigned_at=dispute.assigned_at, reason=dispute.reason,
        amount=dispute.amount, currency=dispute.currency, answer=answer.get("text"), resolved_by=dispute.resolved_by,
        resolved_at=dispute.resolved_at, version=dispute.version,
        evidence=[evidence_answer(each, keys) for each in brought if each.dispute_id == dispute_id],
    )  # fmt: skip


def evidence_answer(evidence: Evidence, keys: Keys) -> EvidenceAnswer:
    said, erased = opened(disputes.evidence_of(evidence.dispute_id), evidence.number, evidence.personal, keys)
    return EvidenceAnswer(
        evidence_id=evidence.evidence_id, number=evidence.number, said=said, erased=erased, sha256=evidence.sha256,
        added_by=evidence.added_by, added_at=evidence.added_at,
    )  # fmt: skip


def keys_named(dispute: Sequence[Dispute], brought: Sequence[Evidence]) -> list[str]:
    """The ids of the keys that these name."""
    sealed = [each for one in dispute for each in (one.claim, one.answer)] + [each.personal for each in brought]
    return sorted({str(each["key_id"]) for each in sealed if each})
