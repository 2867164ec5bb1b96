"""The only place for the shapes of what operators are shown, over HTTP and by `rushline dlq --json` alike."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from outbox.letters.model import Group, Letter, LetterFilter
from outbox.letters.runbooks import runbook

T = TypeVar("T")


class LetterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A letter in a listing."""

    letter_id: str
    state: str
    source: str
    consumer: str
    type: str
    order_id: str | None
    failure_type: str
    category: str
    reason: str
    error: str
    message: str
    fingerprint: str
    attempts: int
    generation: int
    first_failed_at: datetime
    last_failed_at: datetime
    parked_at: datetime
    owner: str | None
    snoozed_until: datetime | None
    resolution: str | None
    resolved_by: str | None
    resolved_at: datetime | None
    version: int


class CountAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are; at least so many, where it is not exact."""

    number: int
    exact: bool


class Letters(msgspec.Struct, frozen=True, kw_only=True):
    """A page of letters, the latest failure first. `next_cursor` is null on the last."""

    letters: list[LetterSummary]
    next_cursor: str | None
    count: CountAnswer


class GroupAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Letters of one kind. `open`: neither resolved nor discarded. `example`: the message of one."""

    fingerprint: str
    consumer: str
    type: str
    failure_type: str
    category: str
    error: str
    example: str
    total: int
    open: int
    first_at: datetime
    last_at: datetime
    owner: str | None
    snoozed_until: datetime | None


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """A page of groups, the one with the most open letters first. `next_cursor` is null on the last."""

    groups: list[GroupAnswer]
    next_cursor: str | None


class StageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a replay: how many it sends, and what became of them. `sent`: under way."""

    size: int
    sent: int
    done: int
    failed: int
    skipped: int


class ReplayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A replay of many letters, and how far it is. `stage` counts from 0; `sent`: under way; `rate`: letters a second."""

    replay_id: str
    state: str
    why: str | None
    filter: LetterFilter
    cutoff: datetime
    reason: str
    stages: list[StageAnswer]
    stage: int
    per_second: int | None
    total: int
    waiting: int
    sent: int
    done: int
    failed: int
    skipped: int
    rate: float | None
    seconds_left: float | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


class ItemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One letter of a replay, by its number: the oldest failure is the first. `why`: it was skipped."""

    number: int
    letter_id: str
    stage: int
    state: str
    why: str | None
    sent_at: datetime | None


class Replays(msgspec.Struct, frozen=True, kw_only=True):
    """A page of replays, newest first. `next_cursor` is null on the last."""

    replays: list[ReplayAnswer]
    next_cursor: str | None


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a replay's letters, by number. `next_cursor` is null on the last."""

    items: list[ItemAnswer]
    next_cursor: str | None


class EditAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An edit of a letter's body. `waiting`: for a second person. `base`: SHA-256 of the body that it was made from."""

    edit_id: str
    letter_id: str
    state: str
    diff: str
    text: str
    base: str
    reason: str
    proposed_by: str
    proposed_at: datetime
    decided_by: str | None
    decided_at: datetime | None


class Edits(msgspec.Struct, frozen=True, kw_only=True):
    """A page of edits, newest first. `next_cursor` is null on the last."""

    edits: list[EditAnswer]
    next_cursor: str | None


class Discarded(msgspec.Struct, frozen=True, kw_only=True):
    """How many letters were discarded, or would be."""

    discarded: int
    cutoff: datetime
    dry_run: bool


class AlertAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody must look at. `times`: how often it was raised since `raised_at`. `runbook`: what to read."""

    kind: str
    subject: str
    detail: str
    times: int
    raised_at: datetime
    last_at: datetime
    runbook: str | None


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """What is not over, newest first."""

    alerts: list[AlertAnswer]


class LaneAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What waits to be published on one lane. `oldest_s`: age in seconds of what has waited longest."""

    lane: str
    depth: int
    oldest_s: float
    set_aside: int


class Outbox(msgspec.Struct, frozen=True, kw_only=True):
    """What waits to be published, per lane."""

    lanes: list[LaneAnswer]


def shown(model: type[T], thing: object) -> T:
    """The thing in the shape in which it is shown: what the shape does not name stays inside."""
    return msgspec.convert(thing, model, from_attributes=True)


def summary_of(letter: Letter) -> LetterSummary:
    return shown(LetterSummary, letter)


def group_of(group: Group) -> GroupAnswer:
    return shown(GroupAnswer, group)


def alert_of(alert: Any) -> AlertAnswer:
    """From `outbox.alerts.Alert`."""
    given = {name: getattr(alert, name) for name in AlertAnswer.__struct_fields__ if name != "runbook"}
    return AlertAnswer(**given, runbook=runbook(alert.kind))


def edit_answer(edit: Any) -> EditAnswer:
    """From `outbox.letters.editing.Edit`, whose body was checked to be one of a command, and so is text."""
    given = {name: getattr(edit, name) for name in EditAnswer.__struct_fields__ if name != "text"}
    return msgspec.convert({**given, "text": edit.body.decode(errors="replace")}, EditAnswer)
