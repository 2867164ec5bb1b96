"""The only place where people put letters away: discard, note, assign, snooze. Sending again is in `sending.py`.

Each is one transaction with the letter held, so that two operators cannot both be right: `version` is the one that the
caller has seen, and another one is refused.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, transaction
from orders.errors import Invalid, LostRace
from orders.names import Act
from outbox.letters import desk, held, search, set_aside, sql
from outbox.letters.model import (
    Group,
    Letter,
    LetterFilter,
    LetterMoved,
    LetterNotOpen,
    LetterState,
    NoSuchGroup,
    NoSuchLetter,
    NothingMatches,
    Source,
)
from outbox.letters.reading import as_group, as_letter
from outbox.letters.recording import in_one_transaction, record
from outbox.transition import Executor

_LONGEST: Final = 1_000
_AT_ONCE: Final = 200


async def discard(db: Executor, letter_id: str, *, reason: str, actor: str, version: int | None, now: datetime) -> Letter:
    """Put an open letter away for good, and say so in the audit trail of its order.

    A held fact is skipped, and what waited behind the letter is released. Raises `NoSuchLetter`, `LetterNotOpen`,
    `LetterMoved`, `Invalid`, `DatabaseUnavailable`.
    """
    why = _words("reason", reason)

    async def deed(conn: Connection) -> Letter:
        letter = _open(await _read(conn, sql.READ, letter_id), version)
        recorded = await _record(conn, msgspec.structs.asdict(letter), why, actor, now)
        letter = _open(await _read(conn, sql.HOLD, letter_id), version)  # somebody may have been faster
        await _put_away(conn, letter, actor, now)
        await conn.execute(
            sql.END, [letter_id], [{"reason": why}], LetterState.DISCARDED.value, why, actor, now
        )  # fmt: skip
        if not recorded:
            await _tell(conn, letter, "discarded", actor, now, reason=why)
        return await _read(conn, sql.READ, letter_id)

    return await in_one_transaction(db, deed)


async def discard_many(
    db: Executor, wanted: LetterFilter, *, cutoff: datetime, reason: str, actor: str, now: datetime, dry_run: bool
) -> int:
    """Discard every open letter that matches and failed no later than `cutoff`. Returns how many.

    What is snoozed only where its fingerprint is asked for. In batches, each of them whole: where one fails, those before it stand, and the same call goes on from there. Raises
    `NothingMatches`, `Invalid`, `DatabaseUnavailable`.
    """
    why = _words("reason", reason)
    ids = await search.matching(db, msgspec.structs.replace(wanted, state=LetterState.OPEN), cutoff=cutoff, awake=now)
    if not ids:
        raise NothingMatches(await search.why_none(db, wanted))
    if dry_run:
        return len(ids)
    done = 0
    for first in range(0, len(ids), _AT_ONCE):
        batch = ids[first : first + _AT_ONCE]
        done += await in_one_transaction(db, lambda conn, batch=batch: _discard_batch(conn, batch, why, actor, now))  # type: ignore[misc]
    return done


async def note(db: Executor, letter_id: str, *, text: str, actor: str, now: datetime) -> Letter:
    """Add a note, whatever has become of the letter. Raises `NoSuchLetter`, `Invalid`, `DatabaseUnavailable`."""
    words = _words("text", text)
    async with transaction(db) as conn:
        letter = await _read(conn, sql.READ, letter_id)
        await conn.execute(sql.TELL, letter_id, now, actor, "note", {"text": words})
        await _tell(conn, letter, "noted", actor, now, reason=words)
        return letter


async def assign(
    db: Executor, letter_id: str, *, owner: str | None, actor: str, version: int | None, now: datetime
) -> Letter:  # fmt: skip
    """Say whose business an open letter is; None: nobody's. Raises as `discard`."""
    if owner is not None:
        _words("owner", owner)
    async with transaction(db) as conn:
        _open(await _read(conn, sql.HOLD, letter_id), version, LetterState.REPLAYING)
        letter = await _read(conn, sql.ASSIGN, letter_id, owner)
        await conn.execute(sql.TELL, letter_id, now, actor, "assigned", {"owner": owner})
        await _tell(conn, letter, "assigned", actor, now, owner=owner)
        return letter


async def snooze(
    db: Executor, letter_id: str, *, until: datetime | None, actor: str, version: int | None, now: datetime
) -> Letter:  # fmt: skip
    """Out of sight until then; None: at once in sight again. Raises as `discard`."""
    _later("until", until, now)
    async with transaction(db) as conn:
        _open(await _read(conn, sql.HOLD, letter_id), version)
        letter = await _read(conn, sql.SNOOZE, letter_id, until)
        await conn.execute(sql.TELL, letter_id, now, actor, "snoozed", {"until": until and until.isoformat()})
        await _tell(conn, letter, "snoozed", actor, now, until=until.isoformat() if until else None)
        return letter


async def snooze_group(db: Executor, fingerprint: str, *, until: datetime | None, actor: str, now: datetime) -> Group:
    """A whole group out of sight until then. Raises `NoSuchGroup`, `Invalid`, `DatabaseUnavailable`."""
    _later("until", until, now)
    return await _change_group(db, fingerprint, "group_snoozed", {"until": until and until.isoformat()}, actor, now, until)


async def assign_group(db: Executor, fingerprint: str, *, owner: str | None, actor: str, now: datetime) -> Group:
    """Say whose business a whole group is. Raises `NoSuchGroup`, `Invalid`, `DatabaseUnavailable`."""
    if owner is not None:
        _words("owner", owner)
    return await _change_group(db, fingerprint, "group_assigned", {"owner": owner}, actor, now, owner)


async def _change_group(
    db: Executor, fingerprint: str, action: str, detail: dict[str, Any], actor: str, now: datetime, value: object
) -> Group:
    """The group's own history is kept under its fingerprint, beside those of the letters."""
    async with transaction(db) as conn:
        statement = sql.SNOOZE_GROUP if action == "group_snoozed" else sql.ASSIGN_GROUP
        row = await conn.fetchrow(statement, fingerprint, value)
        if row is None:
            raise NoSuchGroup(f"there is no group {fingerprint}")
        await conn.execute(sql.TELL, fingerprint, now, actor, action, detail)
        details = {"act": action, "fingerprint": fingerprint, **detail}
        await desk.tell(
            conn, Act.LETTER_CHANGED, details, actor=actor, cause=f"{fingerprint}/{action}/{now.isoformat()}", now=now
        )  # fmt: skip
        return as_group(row)


async def _discard_batch(conn: Connection, ids: Sequence[str], why: str, actor: str, now: datetime) -> int:
    """One batch: those that somebody settled meanwhile are left alone."""
    concerned = await conn.fetch(sql.ORDERS_OF, ids)
    for row in concerned:  # the orders first, in the order of their ids
        await _record(conn, row, why, actor, now)
    open_now = {row["letter_id"] for row in await conn.fetch(sql.HOLD_OPEN, ids)}
    if gone := [row["letter_id"] for row in concerned if row["letter_id"] not in open_now]:
        raise LostRace(f"{gone[0]} was settled by somebody else at the same moment")
    for row in await conn.fetch(sql.WITH_MORE_TO_DO, sorted(open_now)):
        await _put_away(conn, as_letter(row), actor, now)
    chosen = sorted(open_now)
    await conn.execute(
        sql.END, chosen, [{"reason": why}] * len(chosen), LetterState.DISCARDED.value, why, actor, now
    )  # fmt: skip
    if alone := sorted(open_now - {row["letter_id"] for row in concerned}):  # of no order that could carry it
        await desk.tell(
            conn, Act.LETTER_CHANGED, {"act": "discarded", "letters": alone}, actor=actor, cause=alone[0], now=now, reason=why
        )  # fmt: skip
    return len(chosen)


async def _tell(
    conn: Connection, letter: Letter, act: str, actor: str, now: datetime, *, reason: str | None = None, **details: str | None
) -> None:  # fmt: skip
    """Into the audit trail, beside the order's own steps."""
    told = {"act": act, "letter_id": letter.letter_id, "message_id": letter.message_id, "command": letter.type, **details}
    cause = f"{letter.letter_id}/{letter.version}/{act}"
    await desk.tell(
        conn, Act.LETTER_CHANGED, told, actor=actor, cause=cause, now=now, order_id=letter.order_id, reason=reason
    )  # fmt: skip


async def _record(conn: Connection, letter: Mapping[str, Any], why: str, actor: str, now: datetime) -> bool:
    data = {
        "act": "discarded", "letter_id": letter["letter_id"], "message_id": letter["message_id"], "command": letter["type"],
        "failure": letter["failure_type"], "note": why,
    }  # fmt: skip
    cause = f"{letter['letter_id']}/{letter['version']}"
    return await record(conn, letter["order_id"], actor=actor, reason="letter_discarded", data=data, cause=cause, now=now)


async def _put_away(conn: Connection, letter: Letter, actor: str, now: datetime) -> None:
    """What else must happen, so that nothing waits for a letter that is gone."""
    match letter.source:
        case Source.FACT:
            await held.skip(conn, letter, actor=actor, now=now)
        case Source.OUTBOX:
            await set_aside.drop(conn, letter)
        case Source.COMMAND | Source.ORDER:
            pass


async def _read(conn: Connection, statement: Any, letter_id: str, *more: object) -> Letter:
    try:
        row = await conn.fetchrow(statement, letter_id, *more)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the letter cannot be read: {error}") from error
    if row is None:
        raise NoSuchLetter(f"there is no letter {letter_id}")
    return as_letter(row)


def _open(letter: Letter, version: int | None, *also: LetterState) -> Letter:
    if letter.state not in (LetterState.OPEN, *also):
        raise LetterNotOpen(f"{letter.letter_id} is {letter.state.value}: there is nothing left to do with it now")
    if version is not None and version != letter.version:
        raise LetterMoved(
            f"{letter.letter_id} is at version {letter.version}, not {version}: read it again, then decide"
        )  # fmt: skip
    return letter


def _words(field: str, text: str) -> str:
    words = text.strip()
    if not words or len(words) > _LONGEST or not words.replace("\n", " ").isprintable():
        raise Invalid(field, f"give 1 to {_LONGEST} printable characters")
    return words


def _later(field: str, at: datetime | None, now: datetime) -> None:
    if at is not None and (at.tzinfo is None or at <= now):
        raise Invalid(field, "give a time to come, with its zone")
