"""The only place where a letter's body is edited: proposed, approved by a second person where money moves, sent, recorded.

The letter keeps its original for ever; each edit is kept with the digest of what it was made from. The edit, the message, the
letter's history and the order's audit trail are written in one transaction: nothing of it is ever half-done.
"""

import hashlib
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable
from orders.decide import Cause, Wish
from orders.envelope import TRACEPARENT
from orders.errors import NotFound, Refuse
from orders.ids import derived_id
from orders.lifecycle import Action, Deadline
from orders.names import Act, Command
from outbox.letters import desk
from outbox.letters import editing_sql as sql
from outbox.letters.checking import check, diff
from outbox.letters.model import BadEdit, Letter, LetterMoved, NeedsApproval, NoSuchLetter
from outbox.letters.rehearsal import changing
from outbox.letters.sending import RULE, check_reason, held_letter, refusal_of, send, writing
from outbox.transition import Executor, move

MOVES_MONEY: Final = frozenset({Command.PAYMENT_CHARGE, Command.PAYMENT_REFUND})
_SERVICE: Final = "letters"


class EditState(StrEnum):
    """`waiting`: for a second person."""

    WAITING = "waiting"
    SENT = "sent"
    REFUSED = "refused"


class NoSuchEdit(NotFound):
    """There is no edit with this id."""

    slug = "edit-not-found"


class EditDecided(Refuse):
    """Somebody has approved or refused this edit already."""

    slug = "edit-decided"


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One edit of a letter's body. `base`: SHA-256 of the body that was edited."""

    edit_id: str
    letter_id: str
    base: str
    body: bytes
    diff: str
    reason: str
    state: EditState
    proposed_by: str
    proposed_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None


async def propose(
    db: Executor,
    letter_id: str,
    body: bytes,
    *,
    reason: str,
    actor: str,
    version: int | None = None,
    now: datetime,
    dry_run: bool = False,
) -> Edit:
    """Edit an open letter's body and send it, or let it wait for a second person where it moves money.

    Raises `BadEdit` naming the field, `Invalid`, `NotReplayable`, `NoSuchLetter`, `LetterMoved`, `LetterNotOpen`,
    `LetterSuperseded`; nothing was written then.
    """
    check_reason(reason)
    async with writing(db, dry_run=dry_run) as conn:
        letter = await _held(conn, letter_id, version)
        edit = await _checked(conn, letter, body, reason.strip(), actor, now)
        if edit.state is EditState.WAITING:
            async with changing(conn, dry_run=True):  # what is refused later is better refused now
                await _write(conn, msgspec.structs.replace(edit, state=EditState.SENT))
                await _send(conn, letter, actor, now)
            await conn.execute(sql.TOUCH, letter_id)
        await _write(conn, edit)
        told = {"edit": edit.edit_id, "state": edit.state.value, "reason": edit.reason, "base": edit.base}
        await conn.execute(sql.TELL, letter_id, now, actor, "edited", told)
        if edit.state is EditState.SENT:
            await _send(conn, letter, actor, now)
        await _record(conn, letter, edit, actor, "proposed" if edit.state is EditState.WAITING else "sent", now)
        return edit


async def _checked(conn: Connection, letter: Letter, body: bytes, reason: str, actor: str, now: datetime) -> Edit:
    current = await _current(conn, letter)
    kind = check(letter, current, body)
    if twin := await conn.fetchval(sql.WAITING, letter.letter_id, body):
        raise BadEdit("body", f"is the same as that of {twin}, which waits for approval")
    return Edit(
        edit_id=derived_id("edt", letter.letter_id, letter.version, _digest(body)), letter_id=letter.letter_id,
        base=_digest(current), body=body, diff=diff(current, body), reason=reason, proposed_by=actor, proposed_at=now,
        state=EditState.WAITING if kind in MOVES_MONEY else EditState.SENT,
    )  # fmt: skip


async def approve(db: Executor, edit_id: str, *, actor: str, now: datetime, dry_run: bool = False) -> Edit:
    """The second person's word: the edit is sent. Raises `NoSuchEdit`, `EditDecided`, `NeedsApproval` for the first person,
    `LetterMoved` where another edit was sent meanwhile, and all that `propose` raises.
    """
    async with writing(db, dry_run=dry_run) as conn:
        letter, edit = await _held_edit(conn, edit_id)
        if actor == edit.proposed_by or actor.startswith(RULE):
            raise NeedsApproval(f"{edit_id} moves money and was proposed by {edit.proposed_by}: somebody else must approve it")
        current = await _current(conn, letter)
        if _digest(current) != edit.base:
            raise LetterMoved(f"{edit.letter_id} was sent with another edit since {edit_id} was proposed: propose it again")
        check(letter, current, edit.body)
        decided = msgspec.structs.replace(edit, state=EditState.SENT, decided_by=actor, decided_at=now)
        await conn.execute(sql.DECIDE, edit_id, decided.state.value, actor, now)
        await conn.execute(sql.TELL, edit.letter_id, now, actor, "approved", {"edit": edit_id, "proposed_by": edit.proposed_by})
        await _send(conn, letter, actor, now)
        await _record(conn, letter, decided, actor, f"proposed by {edit.proposed_by}, approved", now)
        return decided


async def refuse(db: Executor, edit_id: str, *, reason: str, actor: str, now: datetime) -> Edit:
    """The edit is not sent; the letter stays open. Raises `NoSuchEdit`, `EditDecided`, `Invalid`."""
    check_reason(reason)
    async with writing(db) as conn:
        letter, edit = await _held_edit(conn, edit_id)
        await conn.execute(sql.DECIDE, edit_id, EditState.REFUSED.value, actor, now)
        await conn.execute(sql.TOUCH, letter.letter_id)
        told = {"edit": edit_id, "reason": reason.strip(), "proposed_by": edit.proposed_by}
        await conn.execute(sql.TELL, edit.letter_id, now, actor, "refused", told)
        await _tell_desk(conn, letter, edit, actor, "edit_refused", reason.strip(), now)
        return msgspec.structs.replace(edit, state=EditState.REFUSED, decided_by=actor, decided_at=now)


async def latest_body(db: Executor, letter_id: str) -> bytes:
    """The body that an edit is made from: as it was sent last. Raises `NoSuchLetter`."""
    async with writing(db) as conn:
        return await _current(conn, await held_letter(conn, letter_id, None))


async def show(db: Executor, edit_id: str) -> Edit:
    """One edit. Raises `NoSuchEdit`."""
    async with writing(db) as conn:
        return _edit(await conn.fetchrow(sql.SHOW, edit_id), edit_id)


async def list_edits(
    db: Executor,
    *,
    state: EditState | None = None,
    letter_id: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[Edit]:
    """Edits, newest first; `before` is the `proposed_at` and id of the last one that was seen."""
    proposed_at, edit_id = before or (None, None)
    try:
        records = await db.fetch(sql.LIST, state and state.value, letter_id, proposed_at, edit_id, limit)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the edits cannot be read: {type(error).__name__}") from error
    return [_edit(record, record["edit_id"]) for record in records]


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def _held(conn: Connection, letter_id: str, version: int | None) -> Letter:
    """The letter, and before it its order: in this order everywhere, so that nobody waits in a circle."""
    record = await conn.fetchrow(sql.ORDER_OF, letter_id)
    if record is None:
        raise NoSuchLetter(f"there is no letter {letter_id}")
    await conn.execute(sql.HOLD_ORDER, record["order_id"])
    return await held_letter(conn, letter_id, version)


async def _held_edit(conn: Connection, edit_id: str) -> tuple[Letter, Edit]:
    """An edit that nobody has decided about, with its letter."""
    known = _edit(await conn.fetchrow(sql.SHOW, edit_id), edit_id)
    letter = await _held(conn, known.letter_id, None)
    edit = _edit(await conn.fetchrow(sql.HOLD, edit_id), edit_id)
    if edit.state is not EditState.WAITING:
        raise EditDecided(f"{edit_id} was {edit.state.value} by {edit.decided_by or edit.proposed_by}: it waits for nobody")
    return letter, edit


def _edit(record: Any, edit_id: str) -> Edit:
    if record is None:
        raise NoSuchEdit(f"there is no edit {edit_id}")
    return msgspec.convert(dict(record), Edit)


async def _current(conn: Connection, letter: Letter) -> bytes:
    """The body as it was sent last."""
    latest: bytes | None = await conn.fetchval(sql.LATEST, letter.letter_id)
    return letter.body if latest is None else latest


async def _write(conn: Connection, edit: Edit) -> None:
    await conn.execute(
        sql.WRITE, edit.edit_id, edit.letter_id, edit.base, edit.body, edit.diff, edit.reason, edit.state.value,
        edit.proposed_by, edit.proposed_at,
    )  # fmt: skip


async def _send(conn: Connection, letter: Letter, actor: str, now: datetime) -> None:
    (sent,) = await send(conn, [letter.letter_id], actor=actor, now=now)
    if sent.refusal is not None:
        raise refusal_of(sent, letter)


async def _record(conn: Connection, letter: Letter, edit: Edit, actor: str, what: str, now: datetime) -> None:
    """In the order's audit trail, if there is such an order. The body stays out of it: its digest proves which one it was."""
    if letter.order_id is None or await conn.fetchval(sql.HOLD_ORDER, letter.order_id) is None:
        await _tell_desk(conn, letter, edit, actor, f"edit {what}", edit.reason, now)
        return
    note = f"{edit.edit_id} of {letter.type} {letter.message_id} {what}; body {_digest(edit.body)}: {edit.reason}"
    trace = letter.headers.get(TRACEPARENT, "")
    cause = Cause(id=edit.edit_id, actor=desk.actor_of(actor), service=_SERVICE, traceparent=trace)
    wish = Wish(action=Action.INTERVENE, reason="letter_edited", data={"note": note})
    await move(conn, letter.order_id, wish, cause, _at_once, clock=lambda: now)


async def _tell_desk(  # of no order that could carry it
    conn: Connection, letter: Letter, edit: Edit, actor: str, act: str, reason: str, now: datetime
) -> None:
    told = {
        "act": act, "letter_id": letter.letter_id, "message_id": letter.message_id, "command": letter.type, "edit_id": edit.edit_id,
        "proposed_by": edit.proposed_by, "body": _digest(edit.body),
    }  # fmt: skip
    await desk.tell(
        conn,
        Act.LETTER_CHANGED,
        told,
        actor=actor,
        cause=f"{edit.edit_id}/{act}",
        now=now,
        order_id=letter.order_id,
        reason=reason,
    )


def _at_once(_: Deadline) -> timedelta:
    """An intervention sets no deadline; an order that lacks one for what it waits for is looked at by the clock."""
    return timedelta(0)
