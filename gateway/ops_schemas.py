"""The only place for the shapes of what operators ask for: filters, reasons, replays, edits, automatic fixes."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from gateway.schemas import Body
from orders.errors import Invalid
from orders.failures import Category, FailureType
from outbox.letters.matching import Match
from outbox.letters.model import LetterFilter, LetterState
from outbox.letters.rule_model import DEFAULT_PER_LETTER, Action, Rule

_END: Final = r"(?![\s\S])"
_CONTROLS: Final = r"\u007f-\u009f\u2028\u2029"
_LINE: Final = rf"^[^\u0000-\u001f{_CONTROLS}]+{_END}"
_LINES: Final = rf"^[^\u0000-\u0009\u000b-\u001f{_CONTROLS}]+{_END}"  # with line breaks
_MOST: Final = 2**31 - 1
_MOST_BODY: Final = 65_536
CANARY: Final = (1, 5)  # then the rest

Word: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200, pattern=_LINE)]
Reason: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=500, pattern=_LINE, examples=["the provider was away until 03:10"])
]
Note: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1000, pattern=_LINES)]
Version: TypeAlias = Annotated[
    int, Meta(ge=1, le=_MOST, description="The version that was read: refused with letter-moved if it is another by now.")
]
Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]
Stages: TypeAlias = Annotated[list[Annotated[int, Meta(ge=1, le=1_000_000)]], Meta(max_length=10, examples=[[1, 5]])]


class FilterBody(Body, frozen=True):
    """Which letters. Each field narrows. `failed_before` is exclusive; times are those of the last failure."""

    state: LetterState | None = None
    fingerprint: Word | None = None
    failure_type: FailureType | None = None
    category: Category | None = None
    consumer: Word | None = None
    type: Word | None = None
    order_id: Word | None = None
    message_id: Word | None = None
    owner: Word | None = None
    words: Word | None = None
    failed_from: Moment | None = None
    failed_before: Moment | None = None


class ReplayLetter(Body, frozen=True):
    """Send one letter again."""

    version: Version | None = None


class DiscardLetter(Body, frozen=True):
    """Why nothing more is to be done."""

    reason: Reason
    version: Version | None = None


class EditLetter(Body, frozen=True):
    """The body as it should have been: all of it as `text`, or what differs as a JSON Merge Patch (RFC 7396) in `patch`."""

    reason: Reason
    text: Annotated[str, Meta(min_length=1, max_length=_MOST_BODY)] | None = None
    patch: dict[str, Any] | None = None
    version: Version | None = None


class RefuseEdit(Body, frozen=True):
    """Why the edit is not sent."""

    reason: Reason


class NoteLetter(Body, frozen=True):
    """What the next person should know."""

    text: Note


class AssignLetter(Body, frozen=True):
    """Who looks after it; null: nobody."""

    owner: Word | None
    version: Version | None = None


class SnoozeLetter(Body, frozen=True):
    """Until when nobody needs to see it; null: from now on again."""

    until: Moment | None
    version: Version | None = None


class AssignGroup(Body, frozen=True):
    """Who looks after the group; null: nobody."""

    owner: Word | None


class SnoozeGroup(Body, frozen=True):
    """Until when nobody needs to see the group; null: from now on again."""

    until: Moment | None


class StartReplay(Body, frozen=True):
    """Send many letters again: a few first, then more, then the rest, and stop at the first that fails again.

    `cutoff`: what failed later is not swept in; now, where it is left out. `stages`: how many at first, then next …; the rest
    follows. `per_second`: at most so many; as fast as it goes, where it is left out.
    """

    filter: FilterBody
    reason: Reason
    cutoff: Moment | None = None
    stages: Stages = msgspec.field(default_factory=lambda: list(CANARY))
    per_second: Annotated[int, Meta(ge=1, le=100_000)] | None = None


class DiscardMany(Body, frozen=True):
    """Do nothing more about many letters. The filter names at least one field."""

    filter: FilterBody
    reason: Reason
    cutoff: Moment | None = None


class PutRule(Body, frozen=True):
    """An automatic fix: which letters, what is done with them, how often, until when.

    `version`: the one that was read, to change a rule; left out, to write a new one. `per_hour` and `per_letter` limit its
    uses. It acts from the moment it is written, unless `enabled` is false.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=_LINE)]
    match: Match
    action: Action
    expires_at: Moment
    description: Annotated[str, Meta(max_length=2000)] = ""
    enabled: bool = True
    per_hour: Annotated[int, Meta(ge=1, le=10_000)] = 100
    per_letter: Annotated[int, Meta(ge=1, le=10)] = DEFAULT_PER_LETTER
    version: Version | None = None


class TryRule(Body, frozen=True):
    """Look at what a rule would have done to the letters of the last `days`. Nothing is written."""

    rule: PutRule
    days: Annotated[int, Meta(ge=1, le=90)] = 30


class SwitchRule(Body, frozen=True):
    """Which version of the rule was read; left out, whichever there is."""

    version: Version | None = None


def rule_of(body: PutRule, under: str = "") -> Rule:
    """The rule as the engine knows it. Raises `Invalid`."""
    given = {name: getattr(body, name) for name in PutRule.__struct_fields__ if name != "version"}
    return Rule(**{**given, "expires_at": moment(f"{under}expires_at", body.expires_at)})


def moment(field: str, value: datetime) -> datetime:
    """The time in UTC. Raises `Invalid` where it lies outside what a database can hold, or names no zone."""
    if value.tzinfo is None:
        raise Invalid(field, "name the zone, as in 2026-03-14T18:30:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise Invalid(field, "no such time: give one like 2026-03-14T18:30:00Z") from error


def filter_of(body: FilterBody, under: str = "filter.") -> LetterFilter:
    """The filter as the letters know it. Raises `Invalid`."""
    times = {
        name: moment(under + name, value)
        for name in ("failed_from", "failed_before")
        if (value := getattr(body, name)) is not None
    }
    return LetterFilter(**{**msgspec.structs.asdict(body), **times})
