"""The only place that says what a dead letter is, what can be asked of letters, and why something is refused."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from orders.errors import Invalid, NotFound, Refuse
from orders.failures import Category, FailureType
from orders.ids import derived_id


class Source(StrEnum):
    """Where a letter comes from."""

    COMMAND = "command"
    FACT = "fact"
    OUTBOX = "outbox"
    ORDER = "order"


class LetterState(StrEnum):
    """What became of it."""

    OPEN = "open"
    REPLAYING = "replaying"
    RESOLVED = "resolved"
    DISCARDED = "discarded"


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One message that one consumer could not get past; the columns of `dead_letters`."""

    letter_id: str
    source: Source
    message_id: str
    consumer: str
    queue: str
    order_id: str | None
    type: str
    schema_version: int | None
    position: int | None
    routing_key: str
    priority: int
    headers: dict[str, str]
    body: bytes
    failure_type: FailureType
    category: Category
    reason: str
    error: str
    message: str
    stack: str
    fingerprint: str
    attempts: int
    generation: int
    first_failed_at: datetime
    last_failed_at: datetime
    parked_at: datetime
    quarantined_at: datetime | None = None
    topic: str | None = None
    partition: int | None = None
    kafka_offset: int | None = None
    state: LetterState = LetterState.OPEN
    resolution: str | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    owner: str | None = None
    snoozed_until: datetime | None = None
    version: int = 1


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which letters. Every field narrows; none given is all of them. `failed_before` is exclusive."""

    state: LetterState | None = None
    fingerprint: str | None = None
    failure_type: FailureType | None = None
    category: Category | None = None
    consumer: str | None = None
    type: str | None = None
    order_id: str | None = None
    message_id: str | None = None
    owner: str | None = None
    words: str | None = None
    failed_from: datetime | None = None
    failed_before: datetime | None = None


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done to a letter."""

    at: datetime
    actor: str
    action: str
    detail: dict[str, Any] = {}


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Letters of one kind; the columns of `letter_groups`. `open`: neither resolved nor discarded. `example`: one's message."""

    fingerprint: str
    consumer: str
    type: str
    failure_type: FailureType
    category: Category
    error: str
    example: str
    total: int
    open: int
    first_at: datetime
    last_at: datetime
    owner: str | None = None
    snoozed_until: datetime | None = None


def letter_id(message_id: str, consumer: str) -> str:
    """A letter is (message, consumer): recorded once."""
    return derived_id("let", message_id, consumer)


class NoSuchLetter(NotFound):
    """There is no letter with this id."""

    slug = "letter-not-found"


class NoSuchGroup(NotFound):
    """There is no group with this fingerprint."""

    slug = "letter-group-not-found"


class LetterNotOpen(Refuse):
    """It was replayed, resolved or discarded before: nothing is left to do with it."""

    slug = "letter-not-open"


class LetterSuperseded(LetterNotOpen):
    """Its order was compensated meanwhile: the command would come too late."""

    slug = "letter-superseded"


class LetterMoved(Refuse):
    """Somebody else has changed the letter since it was read. Read it again, then decide."""

    slug = "letter-moved"


class NothingMatches(Refuse):
    """No open letter matches the filter."""

    slug = "nothing-matches"


class NotReplayable(Refuse):
    """What cannot be read cannot be sent again as it is. Edit it, or discard it."""

    slug = "not-replayable"


class BadEdit(Invalid):
    """The edited body is not one that its type takes."""

    slug = "bad-edit"


class NeedsApproval(Refuse):
    """A command that moves money is edited by one person and approved by another."""

    slug = "needs-approval"
