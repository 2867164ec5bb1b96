"""The only place for the shapes of what support asks for: filters, notes, disputes, evidence, resolutions."""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from gateway.ops_schemas import Note, Version, Word, moment
from gateway.schemas import Body
from orders.disputes import DisputeKind, Refusal
from orders.errors import Invalid
from orders.money import MAX_AMOUNT_MINOR
from orders.names import State

_END: Final = r"(?![\s\S])"
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)

Amount: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_AMOUNT_MINOR, description="In minor units of the order's currency.")]
Sha256: TypeAlias = Annotated[str, Meta(pattern=rf"^[0-9a-f]{{64}}{_END}", examples=["9f86d081884c7d659a2feaa0c55ad015" * 2])]


class OrderFilter(Body, frozen=True):
    """Which orders. Each field narrows. `placed_before` is exclusive."""

    order_id: Word | None = None
    customer_id: Word | None = None
    restaurant_id: Word | None = None
    driver_id: Word | None = None
    state: State | None = None
    city: Word | None = None
    disputed: bool | None = None
    flagged: bool | None = None
    placed_from: datetime | None = None
    placed_before: datetime | None = None


class AuditFilter(Body, frozen=True):
    """Which audit events. Each field narrows. `before` is exclusive."""

    actor: Word | None = None
    action: Word | None = None
    state: State | None = None
    order_id: Word | None = None
    from_: datetime | None = msgspec.field(default=None, name="from")
    before: datetime | None = None


def since(field: str, at: datetime | None) -> datetime:
    """Where a range of time begins. Raises `Invalid`."""
    return _START if at is None else moment(field, at)


class InterveneOrder(Body, frozen=True):
    """What support does for an order: leave a note, or cancel it while that is possible. The note can be read by support alone."""

    note: Note
    do: Literal["note", "cancel"] = "note"


class OpenDispute(Body, frozen=True):
    """What the customer says. `claim`: in their own words."""

    kind: DisputeKind
    claim: Note


class AssignDispute(Body, frozen=True):
    """Who looks after it: the subject of somebody's token."""

    to: Word
    version: Version | None = None


class AddEvidence(Body, frozen=True):
    """Something that speaks for or against: words, or where something is kept, with its digest so that it cannot be exchanged."""

    text: Note | None = None
    reference: Annotated[str, Meta(min_length=1, max_length=500, pattern=rf"^[\u0021-\u007e]+{_END}")] | None = None
    sha256: Sha256 | None = None


class ResolveDispute(Body, frozen=True):
    """How it ends. `refund`: all that this kind is about, or `amount`. `refuse`: with a `reason`, which the customer is told.

    `note`: what speaks for it, for the record.
    """

    resolution: Literal["refund", "refuse"]
    note: Note
    amount: Amount | None = None
    reason: Refusal | None = None
    version: Version | None = None

    def check(self) -> None:
        """Raises `Invalid` for a refusal without a reason, or with money."""
        if self.resolution == "refuse" and self.reason is None:
            raise Invalid("reason", "say why: the customer is told")
        if self.resolution == "refuse" and self.amount is not None:
            raise Invalid("amount", "a refusal gives nothing back: leave it out")
        if self.resolution == "refund" and self.reason is not None:
            raise Invalid("reason", "is for refusals: leave it out")


def evidence_of(body: AddEvidence) -> tuple[dict[str, str], str | None]:
    """What is said, and the digest of what is kept elsewhere. Raises `Invalid` where neither or half of it is given."""
    if body.text is None and body.reference is None:
        raise Invalid("text", "give words, or a reference with its sha256")
    if (body.reference is None) != (body.sha256 is None):
        raise Invalid("sha256", "a reference and its sha256 go together")
    said = {name: value for name, value in (("text", body.text), ("reference", body.reference)) if value is not None}
    return said, body.sha256
