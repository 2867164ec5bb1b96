"""The only place that says which rule takes a letter, and when: first match first, its waits, its limits. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from adapters.settings import Settings
from outbox.letters.matching import matches
from outbox.letters.model import LetterState, Source
from outbox.letters.rule_model import Action, Delay, Discard, Rule

HOUR_S: Final = 3_600
DELAYED: Final = "delayed"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as the rules saw it. `waits_for`: the rule under whose limit it waited for room."""

    letter_id: str
    changes: int = 0
    waits_for: str | None = None
    source: Source
    message_id: str
    state: LetterState
    version: int
    generation: int
    fingerprint: str
    failure_type: str
    category: str
    type: str
    consumer: str
    reason: str
    error: str
    attempts: int
    order_id: str | None
    parked_at: datetime
    snoozed_until: datetime | None = None
    body: bytes


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What the letters of one group have in common."""

    fingerprint: str
    failure_type: str
    category: str
    type: str
    consumer: str
    error: str


class Used(msgspec.Struct, frozen=True):
    """How often a rule was used on a letter, and what became of it for the failure that the letter has now."""

    times: int
    outcome: str | None


class Chosen(msgspec.Struct, frozen=True):
    """A letter and its rule. `ripe`: its wait was begun before and is over, so that this is no further use."""

    letter: Seen
    rule: Rule
    ripe: bool


class Room(msgspec.Struct):
    """What is left under a rule's limit, and from when on letters that find none wait, one behind the other."""

    left: int
    next_at: datetime
    apart: timedelta
    queued: bool  # letters wait already: who comes now goes behind them


def choose(rules: Sequence[Rule], letter: Seen, used: Mapping[tuple[str, str], Used]) -> Chosen | None:
    """The first rule that is about this letter and not used up on it."""
    for rule in rules:
        if not matches(rule.match, letter):
            continue
        use = used.get((letter.letter_id, rule.rule_id))
        if use is None:
            return Chosen(letter, rule, ripe=False)
        if use.outcome == DELAYED:
            return Chosen(letter, rule, ripe=True)
        if use.outcome is None and use.times < rule.per_letter:
            return Chosen(letter, rule, ripe=False)
    return None


def waits_until(action: Action, letter: Seen, settings: Settings) -> datetime | None:
    """Until when the rule waits, counted from when the letter was parked, so that what is old already waits no more."""
    match action:
        case Delay(until=datetime() as until):
            return until
        case Delay(for_s=int() as seconds) | Discard(after_s=seconds) if seconds:
            return letter.parked_at + timedelta(seconds=settings.scaled_s(seconds))
        case _:
            return None


def room_for(
    rule: Rule, used: int, first_at: datetime | None, waiting_until: datetime | None, hour: timedelta, now: datetime
) -> Room:
    """The room under a rule's limit now. Who waits gets a time of their own, so that each is put off once and not every hour."""
    apart = hour / rule.per_hour
    next_at = max(now + apart, (first_at or now) + hour if used >= rule.per_hour else now)
    queued = waiting_until is not None and waiting_until > now
    if waiting_until is not None:
        next_at = max(next_at, waiting_until + apart)
    return Room(left=rule.per_hour - used, next_at=next_at, apart=apart, queued=queued)


def within_limits(
    chosen: Iterable[Chosen], rooms: Mapping[str, Room], most: int
) -> tuple[list[Chosen], list[tuple[Chosen, datetime]]]:
    """Those that may be used now, up to `most`, and those that must wait with the time at which each is looked at again.

    Who comes after the last of `most` is neither: it keeps its place.
    """
    now: list[Chosen] = []
    later: list[tuple[Chosen, datetime]] = []
    for each in chosen:
        if len(now) == most:
            break
        room = rooms[each.rule.rule_id]
        its_turn = each.letter.waits_for == each.rule.rule_id or not room.queued
        if each.ripe:
            now.append(each)
        elif room.left > 0 and its_turn:
            room.left -= 1
            now.append(each)
        else:
            later.append((each, room.next_at))
            room.next_at += room.apart
    return now, later
