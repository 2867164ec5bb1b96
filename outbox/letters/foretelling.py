"""The only place that says what a rule would do: to letters of the past, and to those that are open now. Nothing is written."""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final, assert_never

import msgspec

from adapters.postgres import Connection, Record, transaction
from adapters.settings import Settings
from orders.commands import SCHEMA_VERSION
from orders.errors import Invalid
from outbox.letters import refusals
from outbox.letters import rules_sql as sql
from outbox.letters.matching import LARGEST_BODY, matches, may_match
from outbox.letters.model import LetterState, Source
from outbox.letters.patching import difference, patched
from outbox.letters.readable import unreadable
from outbox.letters.rule_model import Compensate, Delay, Discard, Patch, Replay, Rule, as_rule
from outbox.letters.uses import on_letters
from outbox.letters.waiting import Group, Seen, choose, waits_until
from outbox.transition import Executor

MOST_LETTERS: Final = 200_000  # looked at; beyond them the answer is `complete: false`
MOST_DAYS: Final = 90
_EXAMPLES: Final = 5
_PAGE: Final = 1_000
_REAL_TIME: Final = Settings()
_HOUR: Final = timedelta(hours=1)


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One letter and what the rule would do with it. `problem`: why that would not work."""

    letter_id: str
    type: str
    state: LetterState
    effect: str
    diff: str = ""
    problem: str = ""


class DryRun(msgspec.Struct, kw_only=True):
    """What a rule is about. `open`: letters that it would take now, its limit aside; `asleep`: those of them that are snoozed, so
    that it takes them when they wake; `taken`: open ones that a rule before it takes; `over_limit`: how many of the past would have had to wait for room; `unworkable`: those with a problem.
    """

    days: int
    looked_at: int = 0
    matching: int = 0
    by_state: dict[str, int] = {}
    open: int = 0
    asleep: int = 0
    taken: int = 0
    over_limit: int = 0
    unworkable: int = 0
    complete: bool = True
    examples: list[Example] = []


class _Past(Seen, frozen=True, kw_only=True):
    last_failed_at: datetime
    schema_version: int | None
    routing_key: str


async def dry_run(db: Executor, rule: Rule, *, now: datetime, days: int = 30) -> DryRun:
    """What the rule would have done to the letters that failed in the last `days`, whatever became of them.

    Raises what `put` raises for what the rule says, and `Invalid` for the days.
    """
    refusals.check(rule, now)
    if not 1 <= days <= MOST_DAYS:
        raise Invalid("days", f"{days} is out of range: give 1 to {MOST_DAYS}")
    told, times = DryRun(days=days), list[datetime]()
    async with transaction(db) as conn:
        rules = _in_order(await conn.fetch(sql.LIST, now - _HOUR, None), rule, now)
        async for page in _past(conn, rule, now - timedelta(days=days), told):
            matching = [letter for letter in page if matches(rule.match, letter)]
            open_now = [letter for letter in matching if letter.state is LetterState.OPEN]
            used = await on_letters(conn, [letter.letter_id for letter in open_now])
            for letter in open_now:
                if (chosen := choose(rules, letter, used)) is None:
                    continue
                ours = _is(chosen.rule, rule)
                told.open += ours
                told.taken += not ours
                told.asleep += ours and letter.snoozed_until is not None and letter.snoozed_until > now
            for letter in matching:
                _tell(told, rule, letter, now)
            times += [letter.last_failed_at for letter in matching]
    told.over_limit = over_limit(sorted(times), rule.per_hour)
    return told


def _in_order(records: Sequence[Record], rule: Rule, now: datetime) -> list[Rule]:
    """The rules that live, with this one in its place as if it did."""
    others = [each for each in map(as_rule, records) if not _is(each, rule)]
    living = [each for each in others if each.lives(now)]
    return sorted([*living, msgspec.structs.replace(rule, enabled=True)], key=lambda each: (each.shipped, each.name))


def _is(one: Rule, other: Rule) -> bool:
    return (one.rule_id == other.rule_id) if other.rule_id else (one.name == other.name)


async def _past(conn: Connection, rule: Rule, since: datetime, told: DryRun) -> AsyncIterator[list[_Past]]:
    """Letters of the groups that the rule can be about, in pages, as long as there are not too many."""
    reads = bool(rule.match.body) or isinstance(rule.action, Patch | Replay | Delay)
    async for group in _groups(conn, rule, since):
        for state in LetterState:
            at, letter_id = None, ""
            while True:
                if told.looked_at >= MOST_LETTERS:
                    told.complete = False
                    return
                page = [
                    msgspec.convert(dict(record), _Past)
                    for record in await conn.fetch(
                        sql.PAST, group, state.value, since, at, letter_id, reads, LARGEST_BODY, _PAGE
                    )
                ]
                told.looked_at += len(page)
                yield page
                if len(page) < _PAGE:
                    break
                at, letter_id = page[-1].last_failed_at, page[-1].letter_id


async def _groups(conn: Connection, rule: Rule, since: datetime) -> AsyncIterator[str]:
    after = ""
    while page := [msgspec.convert(dict(record), Group) for record in await conn.fetch(sql.PAST_GROUPS, since, after, _PAGE)]:
        for group in page:
            if may_match(rule.match, group):
                yield group.fingerprint
        after = page[-1].fingerprint


def _tell(told: DryRun, rule: Rule, letter: _Past, now: datetime) -> None:
    told.matching += 1
    told.by_state[letter.state.value] = told.by_state.get(letter.state.value, 0) + 1
    example = _example(rule, letter, now)
    told.unworkable += bool(example.problem)
    if len(told.examples) < _EXAMPLES:
        told.examples.append(example)


def _example(rule: Rule, letter: _Past, now: datetime) -> Example:
    until = waits_until(rule.action, letter, _REAL_TIME)
    when = f" at {until.isoformat(timespec='seconds')}" if until and until > now else ""
    effect, diff, problem = "", "", ""
    match rule.action:
        case Replay() | Delay():
            effect, problem = f"sent again as it is{when}", _why_not_sent(letter, letter.body)
        case Patch(patch=patch):
            effect = "patched and sent again"
            try:
                after = patched(letter.body, patch)
            except Invalid as refusal:
                problem = str(refusal)
            else:
                diff, problem = difference(letter.body, after), _why_not_sent(letter, after)
                problem = problem or ("" if diff else "the patch changes nothing")
        case Discard(reason=reason):
            effect = f"discarded{when}: {reason}"
        case Compensate(reason=reason):
            effect = f"order {letter.order_id} cancelled: {reason}"
            if letter.source is not Source.COMMAND or letter.order_id is None:
                problem = "it is no command of an order"
        case _:
            assert_never(rule.action)
    return Example(
        letter_id=letter.letter_id, type=letter.type, state=letter.state, effect=effect, diff=diff, problem=problem
    )  # fmt: skip


def _why_not_sent(letter: _Past, body: bytes) -> str:
    if letter.source is not Source.COMMAND:
        return ""
    version = letter.schema_version or SCHEMA_VERSION
    return unreadable(letter.type, version, body, routing_key=letter.routing_key, message_id=letter.message_id)


def over_limit(times: Sequence[datetime], per_hour: int) -> int:
    """How many of these, in order, would have found that many within the hour before them. Who waits takes up no room."""
    used: deque[datetime] = deque()
    late = 0
    for at in times:
        while used and used[0] <= at - _HOUR:
            used.popleft()
        if len(used) < per_hour:
            used.append(at)
        else:
            late += 1
    return late
