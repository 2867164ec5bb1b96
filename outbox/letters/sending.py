"""The only place that sends an open letter again, refuses to, and settles it once the message came to its end.

A replay is an outbox row with the message's own id, so that it is done once however often it is sent. What goes out is the
body as it was sent last: the latest edit's, where there is one, else the original.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, assert_never

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Record, one_connection
from orders.commands import SCHEMA_VERSION
from orders.envelope import MAX_BODY_BYTES
from orders.errors import Invalid
from orders.failures import Category
from orders.names import PRIORITY_RETURNED, Act, Command
from outbox.letters import desk, held, set_aside
from outbox.letters import sending_sql as sql
from outbox.letters.model import (
    Letter,
    LetterMoved,
    LetterNotOpen,
    LetterSuperseded,
    NoSuchLetter,
    NotReplayable,
    Source,
)
from outbox.letters.readable import unreadable
from outbox.letters.rehearsal import changing
from outbox.letters.settling import DONE_BEFORE, settle
from outbox.letters.superseding import OrderNow, is_superseded
from outbox.transition import Executor

__all__ = ["Refusal", "Sent", "check_reason", "held_letter", "refusal_of", "replay_one", "send", "settle", "writing"]

# What the way of its order can overtake; refunds and notices are owed whatever it has come to.
CAN_COME_TOO_LATE: Final = frozenset(
    {
        Command.PAYMENT_CHARGE,
        Command.RESTAURANT_NOTIFY,
        Command.DRIVER_DISPATCH,
        Command.ORDER_CANCEL,
        Command.ORDER_DEADLINE,
    }
)

RULE: Final = "rule:"  # how an automatic fix is called as an actor
_LONGEST_REASON: Final = 500
_AT_ONCE: Final = 50  # bodies of poison in memory


class Refusal(StrEnum):
    """Why a letter is not sent."""

    MISSING = "missing"
    REPLAYING = "replaying"
    RESOLVED = "resolved"
    DISCARDED = "discarded"
    SUPERSEDED = "superseded"
    DONE_BEFORE = "done-before"
    FAILED_SINCE = "failed-since"
    TOO_LARGE = "too-large"
    UNREADABLE = "unreadable"


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one letter that was to be sent. `refusal` None: it is under way."""

    letter_id: str
    refusal: Refusal | None = None
    why: str = ""


@asynccontextmanager
async def writing(db: Executor, *, dry_run: bool = False) -> AsyncIterator[Connection]:
    """One transaction on this connection, or on one of the pool. Raises `DatabaseUnavailable`."""
    try:
        async with one_connection(db) as conn, changing(conn, dry_run=dry_run):
            yield conn
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the letters cannot be reached: {type(error).__name__}") from error


def check_reason(reason: str) -> None:
    """Every deed on letters has a reason that people can read. Raises `Invalid`."""
    if not reason.strip():
        raise Invalid("reason", "is empty: say why")
    if len(reason) > _LONGEST_REASON:
        raise Invalid("reason", f"has {len(reason)} characters, at most {_LONGEST_REASON}")
    if "\x00" in reason:
        raise Invalid("reason", "holds a NUL, which no database keeps")


async def held_letter(conn: Connection, letter_id: str, version: int | None) -> Letter:
    """The letter, held until the transaction ends. Raises `NoSuchLetter`; `LetterMoved` where it has another version."""
    record = await conn.fetchrow(sql.HOLD, letter_id)
    if record is None:
        raise NoSuchLetter(f"there is no letter {letter_id}")
    letter = msgspec.convert(dict(record), Letter)
    if version is not None and letter.version != version:
        raise LetterMoved(f"{letter_id} has version {letter.version} by now, not {version}: read it again, then decide")
    return letter


async def replay_one(
    db: Executor, letter_id: str, *, actor: str, version: int | None = None, now: datetime, dry_run: bool = False
) -> Letter:
    """Send one open letter again; it is `replaying` then, and returned so.

    Raises `NoSuchLetter`, `LetterMoved`, `LetterNotOpen`, `LetterSuperseded`, `NotReplayable`; nothing was written then,
    except that a letter whose message turns out to be done is closed.
    """
    async with writing(db, dry_run=dry_run) as conn:
        await held_letter(conn, letter_id, version)
        (sent,) = await send(conn, [letter_id], actor=actor, now=now)
        letter = await held_letter(conn, letter_id, None)
        if sent.refusal is None:
            told = {"act": "replayed", "letter_id": letter_id, "message_id": letter.message_id, "command": letter.type}
            cause = f"{letter_id}/{letter.version}/replayed"
            await desk.tell(conn, Act.LETTER_CHANGED, told, actor=actor, cause=cause, now=now, order_id=letter.order_id)
    if sent.refusal is not None:
        raise refusal_of(sent, letter)
    return letter


async def send(
    conn: Connection,
    letter_ids: Sequence[str],
    *,
    actor: str,
    now: datetime,
    replay_id: str | None = None,
    cutoff: datetime | None = None,
) -> list[Sent]:
    """Send those of these letters that may be sent, in the caller's transaction; say of each what became of it.

    Letters whose message was done meanwhile are closed as `done before`.
    """
    locked = await conn.fetch(sql.HOLD_MANY, list(letter_ids))
    commands = [record for record in locked if record["source"] == Source.COMMAND]
    late = await _superseded(conn, [record["letter_id"] for record in commands if record["type"] in CAN_COME_TOO_LATE])
    poison = [record["letter_id"] for record in commands if record["category"] == Category.POISON]
    whys = await _unreadable(conn, [key for key in poison if key not in late])
    how = "fixed" if actor.startswith(RULE) else "replayed"
    judged = await conn.fetch(
        sql.SEND, [record["letter_id"] for record in locked], actor, now, list(whys), replay_id, cutoff, late,
        PRIORITY_RETURNED, MAX_BODY_BYTES, SCHEMA_VERSION, how,
    )  # fmt: skip
    found = {
        record["letter_id"]: Sent(
            letter_id=record["letter_id"],
            refusal=record["refusal"] and Refusal(record["refusal"]),
            why=whys.get(record["letter_id"], ""),
        )
        for record in judged
    }
    await _release(conn, [record for record in judged if record["refusal"] is None], found, now)
    if done := [key for key, sent in found.items() if sent.refusal is Refusal.DONE_BEFORE]:
        await conn.execute(sql.RESOLVE, done, DONE_BEFORE, actor, now, DONE_BEFORE)
    return [found.get(key) or Sent(letter_id=key, refusal=Refusal.MISSING) for key in letter_ids]


async def _release(conn: Connection, going: Sequence[Record], found: dict[str, Sent], now: datetime) -> None:
    """What never left the table it is held in: its owner lets it go, and with it what waits behind it.

    A fact that its stream holds no longer took effect meanwhile.
    """
    for record in going:
        if record["source"] == Source.OUTBOX:
            await set_aside.send_back(conn, await held_letter(conn, record["letter_id"], None))
    if facts := {record["letter_id"] for record in going if record["source"] == Source.FACT}:
        for key in facts - await held.wake(conn, sorted(facts), now=now):
            found[key] = Sent(letter_id=key, refusal=Refusal.DONE_BEFORE)


async def _superseded(conn: Connection, letter_ids: Sequence[str]) -> list[str]:
    """Those whose order has gone on without them, by its lifecycle."""
    late = []
    for record in await conn.fetch(sql.WITH_ORDERS, list(letter_ids), MAX_BODY_BYTES):
        try:
            body = msgspec.json.decode(record["body"], type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            continue  # poison: people are told that it cannot be read
        if is_superseded(record["type"], record["message_id"], body, msgspec.convert(dict(record), OrderNow)):
            late.append(record["letter_id"])
    return late


async def _unreadable(conn: Connection, letter_ids: Sequence[str]) -> dict[str, str]:
    """Those that nobody could read even now, and why: a deploy may have taught us a newer schema since."""
    whys: dict[str, str] = {}
    for first in range(0, len(letter_ids), _AT_ONCE):
        for record in await conn.fetch(sql.UNREAD, list(letter_ids[first : first + _AT_ONCE]), MAX_BODY_BYTES):
            version = record["schema_version"] or SCHEMA_VERSION
            why = unreadable(
                record["type"],
                min(version, SCHEMA_VERSION) if record["edited"] else version,
                record["body"],
                routing_key=record["routing_key"],
                message_id=record["message_id"],
            )
            if why:
                whys[record["letter_id"]] = why
    return whys


def refusal_of(sent: Sent, letter: Letter) -> Exception:  # noqa: PLR0911  # a row per reason
    """The typed refusal that says why this letter is not sent, and what to do instead."""
    name, refusal = letter.letter_id, sent.refusal or Refusal.MISSING
    match refusal:
        case Refusal.MISSING:
            return NoSuchLetter(f"there is no letter {name}")
        case Refusal.REPLAYING:
            return LetterNotOpen(f"{name} is under way: it was sent again and has not come to its end yet")
        case Refusal.RESOLVED:
            return LetterNotOpen(f"{name} is resolved ({letter.resolution}): nothing is left to send")
        case Refusal.DISCARDED:
            return LetterNotOpen(f"{name} was discarded by {letter.resolved_by}: {letter.resolution}")
        case Refusal.SUPERSEDED:
            return LetterSuperseded(
                f"{name} is superseded: order {letter.order_id} has gone on without it, so {letter.type} comes too late"
            )
        case Refusal.DONE_BEFORE:
            return LetterNotOpen(f"{letter.message_id} was done meanwhile: {name} is closed as {DONE_BEFORE}")
        case Refusal.FAILED_SINCE:
            return LetterNotOpen(f"{name} failed again after the cut-off: look at it first")
        case Refusal.TOO_LARGE:
            return NotReplayable(f"{name} has more than {MAX_BODY_BYTES} bytes, which no broker takes: edit it or discard it")
        case Refusal.UNREADABLE:
            return NotReplayable(f"{name} cannot be read: {sent.why}. Edit it or discard it")
        case _:
            assert_never(refusal)
