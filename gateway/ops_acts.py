"""The routes that change one letter or one group: replay, discard, note, assign, snooze. Each can be tried first."""

from typing import Final

from litestar import post
from litestar.params import FromPath, JSONBody

from gateway.bodies import Json
from gateway.context import Gate, HttpRequest
from gateway.docs import problems
from gateway.ops_answers import GroupAnswer, LetterSummary, group_of, summary_of
from gateway.ops_desk import changed, fingerprint_of, letter_of
from gateway.ops_filter import DryRun
from gateway.ops_schemas import (
    AssignGroup,
    AssignLetter,
    DiscardLetter,
    NoteLetter,
    ReplayLetter,
    SnoozeGroup,
    SnoozeLetter,
    moment,
)  # fmt: skip
from outbox.letters import actions, sending

_PROBLEMS: Final = problems(404, 409, 413, 415)


@post("/dead-letters/{letter_id:str}/replay", dto=Json[ReplayLetter], status_code=200, responses=_PROBLEMS)
async def replay_letter(
    request: HttpRequest,
    gateway: Gate,
    letter_id: FromPath[str],
    data: JSONBody[ReplayLetter | None] = None,
    *,
    dry_run: DryRun = False,
) -> LetterSummary:
    """Send the message again as it was, under its own id: what took effect before does not do so twice."""
    version = data.version if data else None
    async with changed(gateway, dry_run=dry_run) as conn:
        letter = await sending.replay_one(conn, letter_of(letter_id), actor=request.user.id, version=version, now=gateway.now())
    return summary_of(letter)


@post("/dead-letters/{letter_id:str}/discard", dto=Json[DiscardLetter], status_code=200, responses=_PROBLEMS)
async def discard_letter(
    request: HttpRequest, gateway: Gate, letter_id: FromPath[str], data: JSONBody[DiscardLetter], *, dry_run: DryRun = False
) -> LetterSummary:
    """Do nothing more about it. The message is kept, and so is the reason."""
    async with changed(gateway, dry_run=dry_run) as conn:
        letter = await actions.discard(
            conn, letter_of(letter_id), reason=data.reason, actor=request.user.id, version=data.version, now=gateway.now()
        )
    return summary_of(letter)


@post("/dead-letters/{letter_id:str}/note", dto=Json[NoteLetter], status_code=200, responses=_PROBLEMS)
async def note_letter(
    request: HttpRequest, gateway: Gate, letter_id: FromPath[str], data: JSONBody[NoteLetter], *, dry_run: DryRun = False
) -> LetterSummary:
    """Leave word for whoever looks at it next."""
    async with changed(gateway, dry_run=dry_run) as conn:
        letter = await actions.note(conn, letter_of(letter_id), text=data.text, actor=request.user.id, now=gateway.now())
    return summary_of(letter)


@post("/dead-letters/{letter_id:str}/assign", dto=Json[AssignLetter], status_code=200, responses=_PROBLEMS)
async def assign_letter(
    request: HttpRequest, gateway: Gate, letter_id: FromPath[str], data: JSONBody[AssignLetter], *, dry_run: DryRun = False
) -> LetterSummary:
    """Say who looks after it."""
    async with changed(gateway, dry_run=dry_run) as conn:
        letter = await actions.assign(
            conn, letter_of(letter_id), owner=data.owner, actor=request.user.id, version=data.version, now=gateway.now()
        )
    return summary_of(letter)


@post("/dead-letters/{letter_id:str}/snooze", dto=Json[SnoozeLetter], status_code=200, responses=_PROBLEMS)
async def snooze_letter(
    request: HttpRequest, gateway: Gate, letter_id: FromPath[str], data: JSONBody[SnoozeLetter], *, dry_run: DryRun = False
) -> LetterSummary:
    """Let nobody be bothered with it until then."""
    until = moment("until", data.until) if data.until else None
    async with changed(gateway, dry_run=dry_run) as conn:
        letter = await actions.snooze(
            conn, letter_of(letter_id), until=until, actor=request.user.id, version=data.version, now=gateway.now()
        )
    return summary_of(letter)


@post("/dead-letters/groups/{fingerprint:str}/assign", dto=Json[AssignGroup], status_code=200, responses=_PROBLEMS)
async def assign_group(
    request: HttpRequest, gateway: Gate, fingerprint: FromPath[str], data: JSONBody[AssignGroup], *, dry_run: DryRun = False
) -> GroupAnswer:
    """Say who looks after letters of this kind."""
    async with changed(gateway, dry_run=dry_run) as conn:
        group = await actions.assign_group(
            conn, fingerprint_of(fingerprint), owner=data.owner, actor=request.user.id, now=gateway.now()
        )
    return group_of(group)


@post("/dead-letters/groups/{fingerprint:str}/snooze", dto=Json[SnoozeGroup], status_code=200, responses=_PROBLEMS)
async def snooze_group(
    request: HttpRequest, gateway: Gate, fingerprint: FromPath[str], data: JSONBody[SnoozeGroup], *, dry_run: DryRun = False
) -> GroupAnswer:
    """Let nobody be bothered with letters of this kind until then. They are counted all the same."""
    until = moment("until", data.until) if data.until else None
    async with changed(gateway, dry_run=dry_run) as conn:
        group = await actions.snooze_group(
            conn, fingerprint_of(fingerprint), until=until, actor=request.user.id, now=gateway.now()
        )
    return group_of(group)


ROUTES: Final = (
    replay_letter, discard_letter, note_letter, assign_letter, snooze_letter, assign_group, snooze_group,
)  # fmt: skip
