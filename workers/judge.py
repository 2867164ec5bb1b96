"""The only place for retry policy: what becomes of a message whose handler raised. One pure function.

The error's root says what must happen next, its failure's category whether it may pass; never the words in its text.
"""

from typing import Final

import msgspec

from adapters.payments import ProcessingErrorDecline
from adapters.postgres import DatabaseUnavailable
from orders.errors import (
    AlreadyDone,
    CallAnOperator,
    DependencyDown,
    NotAllowed,
    PeerAway,
    Refuse,
    RetryLater,
    RushlineError,
    Stale,
)
from orders.failures import CATEGORY, Category, FailureType
from orders.names import DEAD_LETTERS, POISON
from orders.tiers import TIERS, Tier
from workers.ports import NoDriverAvailable

LONGEST_FREE_WAIT_S: Final = 2_700  # business time: an outage of half an hour and some more; nothing circulates for ever


class Ack(msgspec.Struct, frozen=True):
    """Nothing is left to do. `why` is the metric's label."""

    why: str = "done"


class Wait(msgspec.Struct, frozen=True):
    """Wait in this tier, then the same again. `spends`: it costs the message one of its attempts."""

    tier: Tier
    spends: bool = True


class Park(msgspec.Struct, frozen=True):
    """Out of the way, for an operator to look at."""

    reason: str
    queue: str


class Again(msgspec.Struct, frozen=True):
    """Not this message's fault: back into its queue, until what it needs is there again. Costs no attempt."""


Verdict = Ack | Wait | Park | Again

# Waiting a few hundredths of a second cannot help these.
_NO_QUICK_TRY: Final = (
    AlreadyDone,
    CallAnOperator,
    DatabaseUnavailable,
    DependencyDown,
    NoDriverAvailable,
    PeerAway,
    ProcessingErrorDecline,
    Refuse,
)


def judge(error: BaseException, attempt: int, *, waited_s: float = 0.0) -> Verdict:  # noqa: PLR0911  # a line per verdict
    """What follows from this failure of the message's attempt number `attempt`, counted from 1.

    `waited_s`: business time since it failed first.
    """
    match error:
        case AlreadyDone():
            return Ack(error.slug)
        case NotAllowed():
            return Ack(Stale.slug)
        case DatabaseUnavailable() | DependencyDown():
            return Again()
        case PeerAway() if waited_s < LONGEST_FREE_WAIT_S:
            return Wait(_no_longer_than(waited_s), spends=False)
        case PeerAway():  # it was tried all the while: three more tries would keep its customer waiting twenty minutes longer
            return Park(reason_of(error), DEAD_LETTERS)
        case NoDriverAvailable():
            return Wait(TIERS[0])  # until the order's own deadline ends the search
    category = CATEGORY[failure_of(error)]
    if category is Category.POISON:
        return Park(reason_of(error), POISON)
    # A refusal, or a bug of ours, may have no type of its own: it is `unknown`, and known not to pass all the same.
    may_pass = isinstance(error, RetryLater) or not isinstance(error, RushlineError)
    if category is Category.TRANSIENT and may_pass and attempt <= len(TIERS):
        return Wait(TIERS[attempt - 1])
    return Park(reason_of(error), DEAD_LETTERS)


def _no_longer_than(waited_s: float) -> Tier:
    """The longest tier that does not double the time waited so far: an outage costs a message at most its length again."""
    return next((tier for tier in reversed(TIERS) if tier.wait_s <= waited_s), TIERS[0])


def worth_a_quick_try(error: BaseException) -> bool:
    """Whether the same may succeed within a few hundredths of a second. What nobody has named yet may."""
    return isinstance(error, Exception) and not isinstance(error, _NO_QUICK_TRY)


def reason_of(error: BaseException) -> str:
    """The stable name of a failure: its slug, or `unknown`."""
    return error.slug if isinstance(error, RushlineError) else "unknown"


def failure_of(error: BaseException) -> FailureType:
    """The type of a failure. What is not an error of ours is `unknown`."""
    return error.failure if isinstance(error, RushlineError) else FailureType.UNKNOWN
