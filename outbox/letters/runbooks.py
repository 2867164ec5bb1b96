"""The only place that says which page of docs/runbooks/ to read about a letter or an alert."""

from typing import Final

from orders.failures import Category, FailureType
from orders.names import Command
from outbox.letters.model import Letter, LetterState, Source

FOLDER: Final = "docs/runbooks"
POISON: Final = "poison"
REFUND_PARKED: Final = "refund-parked"
SET_ASIDE: Final = "set-aside"
HELD_FACT: Final = "held-fact"
TIER_STUCK: Final = "tier-stuck"
BREAKER_OPEN: Final = "breaker-open"
REPLAY_STOPPED: Final = "replay-stopped"
AUDIT: Final = ("audit-log-refused", "audit-chain-broken", "audit-archive-stuck")
PAGES: Final = (
    *(kind.value for kind in FailureType),
    *(POISON, REFUND_PARKED, SET_ASIDE, HELD_FACT, TIER_STUCK, BREAKER_OPEN, REPLAY_STOPPED, *AUDIT),
)

# Alerts that share another's page.
_NEAR: Final = {"letters-untaken": TIER_STUCK, "tiers-unwatched": TIER_STUCK, "gap": HELD_FACT}
# Sources with a way of their own to fail, whatever the error was.
_BY_SOURCE: Final = {Source.FACT: HELD_FACT, Source.OUTBOX: SET_ASIDE}


def runbook(name: str) -> str | None:
    """The page about a failure type or a kind of alert; None where there is none."""
    page = _NEAR.get(name, name)
    return f"{FOLDER}/{page}.md" if page in PAGES else None


def runbook_of(letter: Letter) -> str:
    """The page to read about this letter: what is particular to it before what is general."""
    page = _BY_SOURCE.get(letter.source, letter.failure_type.value)
    if letter.source is Source.COMMAND:
        if letter.type == Command.PAYMENT_REFUND and letter.state is not LetterState.RESOLVED:
            page = REFUND_PARKED
        if letter.category is Category.POISON:
            page = POISON
    return f"{FOLDER}/{page}.md"
