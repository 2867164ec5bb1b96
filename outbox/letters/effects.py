"""The only place that does to one letter what a rule says, in the caller's transaction.

What a rule did stands in three places, or in none: its use, the letter's history, the audit trail of the order.
"""

from datetime import datetime
from typing import Final, assert_never

import msgspec

from adapters.postgres import Connection
from adapters.settings import Settings
from orders.commands import command_body, command_id
from orders.decide import command_row
from orders.envelope import TRACEPARENT, trace_id
from orders.errors import NotAllowed, NotFound, Refuse
from orders.lifecycle import Action as OrderAction
from orders.lifecycle import row_for
from orders.names import PRIORITY, Act, Command
from orders.order import Pending
from outbox.letters import actions, desk, editing
from outbox.letters import rules_sql as sql
from outbox.letters import sql as letters_sql
from outbox.letters.model import LetterState, Source
from outbox.letters.patching import patched
from outbox.letters.recording import record
from outbox.letters.rule_model import Compensate, Delay, Discard, Patch, Replay, Rule
from outbox.letters.sending import send
from outbox.letters.waiting import DELAYED, Seen, waits_until
from outbox.transition import load
from outbox.watched import enqueue_watched

COMPENSATED: Final = "compensated"
_REFUSED: Final = "refused: "
_RECORDED_BY_THEIR_OWN: Final = (Discard, Patch)  # `actions` and `editing` write the audit trail themselves


class NotCompensable(Refuse):
    """There is no order to cancel, or nothing left of it that could be."""

    slug = "not-compensable"


class Outcome(msgspec.Struct, frozen=True):
    """What became of the letter. `why`: of a refusal, in words."""

    name: str
    why: str = ""

    @property
    def refused(self) -> bool:
        return self.name.startswith(_REFUSED)


async def carry_out(conn: Connection, rule: Rule, letter: Seen, *, settings: Settings, now: datetime) -> Outcome:
    """Do it, or begin to wait, and write down which. The caller holds the rule, the order and the letter.

    Where the letter cannot be mended this way, nothing is done but to say so.
    """
    until = waits_until(rule.action, letter, settings)
    try:
        async with conn.transaction():
            outcome = await _effect(conn, rule, letter, until if until and until > now else None, now)
    except Refuse as refusal:
        outcome = Outcome(_REFUSED + refusal.slug, str(refusal))
    told = {"rule": rule.name, "version": rule.version, "outcome": outcome.name, "generation": letter.generation}
    if outcome.why:
        told["why"] = outcome.why
    await conn.execute(sql.TELL, letter.letter_id, now, rule.actor, "rule_refused" if outcome.refused else "fixed", told)
    if not outcome.refused and (outcome.name == DELAYED or not isinstance(rule.action, _RECORDED_BY_THEIR_OWN)):
        await _audit(conn, rule, letter, outcome, now)
    return outcome


async def _effect(conn: Connection, rule: Rule, letter: Seen, until: datetime | None, now: datetime) -> Outcome:
    if until is not None:
        await actions.snooze(conn, letter.letter_id, until=until, actor=rule.actor, version=letter.version, now=now)
        return Outcome(DELAYED)
    match rule.action:
        case Replay() | Delay():
            (sent,) = await send(conn, [letter.letter_id], actor=rule.actor, now=now)
            return Outcome(f"{_REFUSED}{sent.refusal.value}", sent.why) if sent.refusal else Outcome("sent")
        case Patch(patch=patch):
            await editing.propose(
                conn, letter.letter_id, patched(letter.body, patch), reason=f"rule {rule.name}", actor=rule.actor,
                version=letter.version, now=now,
            )  # fmt: skip
            return Outcome("patched")
        case Discard(reason=reason):
            await actions.discard(
                conn, letter.letter_id, reason=reason, actor=rule.actor, version=letter.version, now=now
            )  # fmt: skip
            return Outcome("discarded")
        case Compensate(reason=reason):
            await _compensate(conn, rule, letter, reason, now)
            return Outcome(COMPENSATED)
        case _:
            assert_never(rule.action)


async def _compensate(conn: Connection, rule: Rule, letter: Seen, reason: str, now: datetime) -> None:
    """One `order.cancel` per letter, whoever asks for it and how often; with it, the letter has its answer."""
    if letter.source is not Source.COMMAND or letter.order_id is None:
        raise NotCompensable(f"{letter.letter_id} is no command of an order: replay it or discard it")
    try:
        order, _ = await load(conn, letter.order_id)
        row_for(OrderAction.CANCEL, order.state)
    except (NotFound, NotAllowed) as error:
        raise NotCompensable(f"{letter.order_id} cannot be cancelled: {error}") from error
    headers = {
        TRACEPARENT: order.traceparent,
        "causationid": letter.letter_id,
        "correlationid": trace_id(order.traceparent),
    }
    body = command_body(Command.ORDER_CANCEL, {"order_id": order.order_id, "position": order.position, "reason": reason})
    key = command_id(order.order_id, 0, Command.ORDER_CANCEL, letter.letter_id)
    entry = Pending(Command.ORDER_CANCEL.value, body)
    await enqueue_watched(conn, [command_row(key, entry, PRIORITY[Command.ORDER_CANCEL], headers, now)])
    await conn.execute(
        letters_sql.END, [letter.letter_id], [{"reason": reason, "command": key}], LetterState.RESOLVED.value, COMPENSATED,
        rule.actor, now,
    )  # fmt: skip


async def _audit(conn: Connection, rule: Rule, letter: Seen, outcome: Outcome, now: datetime) -> None:
    data = {
        "act": "automatic_fix", "letter_id": letter.letter_id, "message_id": letter.message_id, "command": letter.type,
        "failure": letter.failure_type, "rule_id": rule.rule_id, "rule": rule.name, "outcome": outcome.name,
    }  # fmt: skip
    cause = f"{letter.letter_id}/{letter.generation}/{rule.rule_id}/{outcome.name}"
    if not await record(conn, letter.order_id, actor=rule.actor, reason="automatic_fix", data=data, cause=cause, now=now):
        await desk.tell(conn, Act.RULE_FIRED, data, actor=rule.actor, cause=cause, now=now)
