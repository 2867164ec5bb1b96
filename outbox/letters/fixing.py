"""The only place that applies automatic fixes to letters: one bounded step, again and again.

Letters come into a queue of their own by trigger (migrations/0014_letter_rules.sql), in the transaction that opens them, and
leave it once no rule is about them. So a step reads what is due, never what is open: it costs the same with a million open
letters as with ten, and no letter is missed whatever order transactions commit in, which a cursor over times could not promise.
What must wait (a snooze, a delay, a limit) is due at a time of its own. A rule that changes sends those groups through the
queue once more that some rule can be about.

Each use is one transaction: the rule is held (so that off is off at once, and limits are counted one by one), then the order,
the letter, the effect, the use, the history, the audit trail, the queue. Killed anywhere, it happened or it did not; and its
use is a row with the letter's generation in its key, so no rule is used twice for one failure.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog

from adapters.postgres import Connection, Pool, transaction
from adapters.settings import Settings
from orders.errors import RetryLater
from outbox import metrics
from outbox.letters import rules_sql as sql
from outbox.letters.effects import carry_out
from outbox.letters.matching import LARGEST_BODY, may_match
from outbox.letters.model import LetterMoved, LetterState
from outbox.letters.recording import in_one_transaction
from outbox.letters.rule_model import Patch, Rule
from outbox.letters.rules import expire, list_rules
from outbox.letters.uses import on_letters
from outbox.letters.waiting import HOUR_S, Chosen, Group, Room, Seen, choose, room_for, waits_until, within_limits

LOOK: Final = 200  # letters looked at in one step
_USES: Final = 20  # and mended, so that the keeper comes to its other work within a second
_SWEEP: Final = 500
_GROUPS: Final = 500
_BROKEN: Final = timedelta(minutes=15)  # before a letter is tried again that our own code stumbled over

log = structlog.get_logger()


async def step(pool: Pool, settings: Settings, now: datetime) -> int:
    """Look at the letters that are due, use the rules that are about them, go on with a second look at all.

    Returns how many letters it got any further with. Raises `DatabaseUnavailable`.
    """
    async with transaction(pool) as conn:
        await expire(conn, now)
        rules = [rule for rule in await list_rules(conn, now=now) if rule.lives(now)]
        due = await _due(conn, rules, now)
        fixable, done = await _sort(conn, rules, due, settings, now)
    for each in fixable:
        done += await _use(pool, each, settings, now)
    return done + (await _sweep(pool, rules, now) if len(due) < LOOK else 0)


async def _due(conn: Connection, rules: Sequence[Rule], now: datetime) -> list[Seen]:
    reads = any(rule.match.body or isinstance(rule.action, Patch) for rule in rules)
    records = await conn.fetch(sql.DUE, now, LOOK, reads, LARGEST_BODY)
    missing = [record for record in records if record["state"] is None]  # letters that were deleted by hand
    if missing:
        await conn.execute(sql.LEAVE, [record["letter_id"] for record in missing], [record["changes"] for record in missing])
    return [msgspec.convert(dict(record), Seen) for record in records if record["state"] is not None]


async def _sort(
    conn: Connection, rules: Sequence[Rule], due: Sequence[Seen], settings: Settings, now: datetime
) -> tuple[list[Chosen], int]:
    """The letters that may be mended now; the others leave the queue, or are put off. How many did."""
    awake: list[Seen] = []
    gone: list[Seen] = []
    later: list[tuple[Seen, datetime, str | None]] = []
    for letter in due:
        if letter.state is not LetterState.OPEN:
            gone.append(letter)
        elif letter.snoozed_until is not None and letter.snoozed_until > now:
            later.append((letter, letter.snoozed_until, None))
        else:
            awake.append(letter)
    used = await on_letters(conn, [letter.letter_id for letter in awake])
    chosen = []
    for letter in awake:
        found = choose(rules, letter, used)
        until = waits_until(found.rule.action, letter, settings) if found else None
        if found is None:
            gone.append(letter)
        elif found.ripe and until is not None and until > now:  # somebody woke it; its rule still waits
            later.append((letter, until, None))
        else:
            chosen.append(found)
    fixable, full = within_limits(chosen, await _rooms(conn, chosen, settings, now), _USES)
    later += [(each.letter, at, each.rule.rule_id) for each, at in full]
    if gone:
        await conn.execute(sql.LEAVE, [letter.letter_id for letter in gone], [letter.changes for letter in gone])
    await _put_off(conn, later)
    return fixable, len(gone) + len(later)


async def _rooms(conn: Connection, chosen: Sequence[Chosen], settings: Settings, now: datetime) -> dict[str, Room]:
    rules, hour = {each.rule.rule_id: each.rule for each in chosen}, _hour(settings)
    if not rules:
        return {}
    return {
        record["rule_id"]: room_for(
            rules[record["rule_id"]], record["used"], record["first_at"], record["waiting_until"], hour, now
        )
        for record in await conn.fetch(sql.LIMITS, list(rules), now - hour)
    }


async def _put_off(conn: Connection, later: Sequence[tuple[Seen, datetime, str | None]]) -> None:
    if later:
        ids, changes = [letter.letter_id for letter, _, _ in later], [letter.changes for letter, _, _ in later]
        await conn.execute(sql.PUT_OFF, ids, changes, [at for _, at, _ in later], [rule_id for _, _, rule_id in later])


def _hour(settings: Settings) -> timedelta:
    return timedelta(seconds=settings.scaled_s(HOUR_S))


async def _use(pool: Pool, chosen: Chosen, settings: Settings, now: datetime) -> int:
    """Use the rule on the letter, whole or not at all. 0 where the two are no longer as they were: they are looked at again."""
    try:
        return await in_one_transaction(pool, lambda conn: _use_in(conn, chosen, settings, now))
    except LetterMoved:
        return 0
    except RetryLater:
        raise
    except Exception:
        # One letter that our code stumbles over must not hold up all that are behind it.
        log.exception("an automatic fix broke", rule=chosen.rule.name, letter_id=chosen.letter.letter_id)
        metrics.FIXES.labels(chosen.rule.name, "broke").inc()
        async with transaction(pool) as conn:
            await _put_off(conn, [(chosen.letter, now + _BROKEN, None)])
        return 1


async def _use_in(conn: Connection, chosen: Chosen, settings: Settings, now: datetime) -> int:
    letter, rule = chosen.letter, chosen.rule
    if await conn.fetchval(sql.HOLD_FOR_USE, rule.rule_id, rule.version, now) is None:
        return 0
    hour = _hour(settings)
    if not chosen.ripe and await conn.fetchval(sql.USES, rule.rule_id, now - hour) >= rule.per_hour:
        await _put_off(conn, [(letter, now + hour / rule.per_hour, rule.rule_id)])
        return 1
    await conn.execute(sql.HOLD_ORDER, letter.order_id)
    if await conn.fetchval(sql.HOLD_LETTER, letter.letter_id, letter.version) is None:
        return 0
    outcome = await carry_out(conn, rule, letter, settings=settings, now=now)
    if chosen.ripe:
        use = await conn.fetchval(sql.END_USE, rule.rule_id, letter.letter_id, letter.generation, outcome.name)
    else:
        use = await conn.fetchval(sql.USE, rule.rule_id, letter.letter_id, letter.generation, outcome.name, now)
    if use is None:
        raise LetterMoved(f"{rule.name} was used on {letter.letter_id} at the same moment")
    metrics.FIXES.labels(rule.name, outcome.name).inc()
    return 1


async def _sweep(pool: Pool, rules: Sequence[Rule], now: datetime) -> int:
    """The second look: one page of one group's letters into the queue, or the next group."""
    async with transaction(pool) as conn:
        place = await conn.fetchrow(sql.SWEEP)
        if place is None:
            return 0
        group, at, letter_id = place["fingerprint"], place["last_failed_at"], place["letter_id"]
        page = await conn.fetch(sql.SWEEP_IN, group, at, letter_id, _SWEEP, now) if group else []
        under_way = True
        if len(page) == _SWEEP:
            at, letter_id = page[-1]["last_failed_at"], page[-1]["letter_id"]
        else:
            group, under_way = await _next_group(conn, rules, group)
            at, letter_id = None, ""
        await conn.execute(sql.SWEEP_ON, place["round"], group, at, letter_id, under_way)
        return max(1, len(page))


async def _next_group(conn: Connection, rules: Sequence[Rule], group: str) -> tuple[str, bool]:
    """The next group that a rule can be about, and whether there is anything left to look at."""
    groups = [msgspec.convert(dict(record), Group) for record in await conn.fetch(sql.GROUPS, group, _GROUPS)]
    for each in groups:
        if any(may_match(rule.match, each) for rule in rules):
            return each.fingerprint, True
    return (groups[-1].fingerprint, True) if len(groups) == _GROUPS else ("", False)
