"""The only place for retry policy: what becomes of a message whose handler raised. One pure function."""

from typing import Final

import msgspec

from adapters.payments import ProcessingErrorDecline
from adapters.postgres import DatabaseUnavailable
from orders.errors import AlreadyDone, BadMessage, CallAnOperator, NotAllowed, Refuse, RushlineError, Stale
from orders.names import DEAD_LETTERS, POISON
from orders.tiers import TIERS, Tier
from workers.ports import NoDriverAvailable


class Ack(msgspec.Struct, frozen=True):
    """Nothing is left to do. `why` is the metric's label."""

    why: str = "done"


class Wait(msgspec.Struct, frozen=True):
    """Wait in this tier, then the same again."""

    tier: Tier


class Park(msgspec.Struct, frozen=True):
    """Out of the way, for an operator to look at."""

    reason: str
    queue: str


class Again(msgspec.Struct, frozen=True):
    """Not this message's fault: in place, as soon as the database is back. Costs no attempt."""


Verdict = Ack | Wait | Park | Again

# Waiting a few hundredths of a second cannot help these.
_NO_QUICK_TRY: Final = (AlreadyDone, CallAnOperator, DatabaseUnavailable, NoDriverAvailable, ProcessingErrorDecline, Refuse)


def judge(error: BaseException, attempt: int) -> Verdict:  # noqa: PLR0911  # a line per verdict
    """What follows from this failure of the message's attempt number `attempt`, counted from 1."""
    match error:
        case AlreadyDone():
            return Ack(error.slug)
        case NotAllowed():
            return Ack(Stale.slug)
        case BadMessage():
            return Park(error.slug, POISON)
        case CallAnOperator() | Refuse():
            return Park(error.slug, DEAD_LETTERS)
        case DatabaseUnavailable():
            return Again()
        case NoDriverAvailable():
            return Wait(TIERS[0])  # until the order's own deadline ends the search
    if attempt <= len(TIERS):
        return Wait(TIERS[attempt - 1])
    return Park(reason_of(error), DEAD_LETTERS)


def worth_a_quick_try(error: BaseException) -> bool:
    """Whether the same may succeed within a few hundredths of a second. What nobody has named yet may."""
    return isinstance(error, Exception) and not isinstance(error, _NO_QUICK_TRY)


def reason_of(error: BaseException) -> str:
    """The stable name of a failure: its slug, or `unknown`."""
    return error.slug if isinstance(error, RushlineError) else "unknown"
