"""The only place for the shapes of what a search finds."""

from datetime import datetime

import msgspec

from outbox.letters.model import Group, HistoryEntry, Letter, LetterState


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Letters, the newest failure first, without their bodies and stacks. `next`: the cursor of the next page, if any."""

    letters: list[Letter]
    next: str | None


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How many. Not `exact`: at least so many."""

    number: int
    exact: bool


class GroupPage(msgspec.Struct, frozen=True, kw_only=True):
    """Groups, those with most open letters first."""

    groups: list[Group]
    next: str | None


class EditSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An edit of a letter, as its lineage shows it."""

    edit_id: str
    diff: str
    reason: str
    state: str
    proposed_by: str
    proposed_at: datetime
    decided_by: str | None
    decided_at: datetime | None


class Sibling(msgspec.Struct, frozen=True, kw_only=True):
    """Another failure of the same order."""

    letter_id: str
    consumer: str
    type: str
    failure_type: str
    error: str
    state: LetterState
    resolution: str | None
    last_failed_at: datetime


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one letter."""

    letter: Letter
    group: Group
    history: list[HistoryEntry]
    edits: list[EditSeen]
    replays: list[str]
    siblings: list[Sibling]
    runbook: str | None
