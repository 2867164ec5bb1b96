"""The only place for the shape of one letter with all that is known of it: its bytes, its lineage, what can be done now.

The bytes of a message are data: shown as text where they are one, else as base64, and cut where they are long.
"""

import base64
import hashlib
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from gateway.ops_answers import GroupAnswer, LetterSummary, shown, summary_of
from outbox.letters.model import Letter, LetterState, Source

SHOWN_BYTES: Final = 65_536


class BodyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A message's body as it was sent. `encoding` says how `data` shows it; `bytes` and `sha256` are of all of it."""

    encoding: Literal["utf-8", "base64"]
    data: str
    bytes: int
    sha256: str
    cut: bool


class PlaceRead(msgspec.Struct, frozen=True, kw_only=True):
    """Where a fact was read."""

    topic: str
    partition: int | None
    offset: int | None


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done to the letter."""

    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]


class LineageEdit(msgspec.Struct, frozen=True, kw_only=True):
    """An edit of the letter. `diff`: what it changes, line by line."""

    edit_id: str
    state: str
    diff: str
    reason: str
    proposed_by: str
    proposed_at: datetime
    decided_by: str | None
    decided_at: datetime | None


class SiblingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Another failure of the same order."""

    letter_id: str
    state: str
    consumer: str
    type: str
    failure_type: str
    error: str
    resolution: str | None
    last_failed_at: datetime


class LetterDetail(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a letter. `can`: what may be done with it now. `siblings`: other failures of its order."""

    letter: LetterSummary
    can: list[str]
    message_id: str
    queue: str
    routing_key: str
    priority: int
    schema_version: int | None
    position: int | None
    quarantined_at: datetime | None
    read_at: PlaceRead | None
    headers: dict[str, str]
    body: BodyAnswer
    stack: str
    group: GroupAnswer
    history: list[HistoryAnswer]
    edits: list[LineageEdit]
    replays: list[str]
    siblings: list[SiblingAnswer]
    runbook: str | None


def body_of(body: bytes) -> BodyAnswer:
    """The first part of a body, in a spelling that keeps each byte."""
    part = body[:SHOWN_BYTES]
    cut = len(part) < len(body)
    digest = hashlib.sha256(body).hexdigest()
    try:
        text = part.decode()
    except UnicodeDecodeError as error:
        if not cut or error.reason != "unexpected end of data":  # else we cut within a character, the sender did not
            data = base64.b64encode(part).decode()
            return BodyAnswer(encoding="base64", data=data, bytes=len(body), sha256=digest, cut=cut)
        text = part[: error.start].decode()
    return BodyAnswer(encoding="utf-8", data=text, bytes=len(body), sha256=digest, cut=cut)


def can(letter: Letter) -> list[str]:
    """What may be done with the letter in its state; whether its bytes allow it is said when it is tried."""
    if letter.state is LetterState.REPLAYING:
        return ["note", "assign"]
    if letter.state is not LetterState.OPEN:
        return ["note"]
    edits = ["edit"] if letter.source is Source.COMMAND else []
    return ["replay", *edits, "discard", "snooze", "assign", "note"]


def detail_of(detail: Any) -> LetterDetail:
    """From `outbox.letters.search.Detail`."""
    letter: Letter = detail.letter
    place = PlaceRead(topic=letter.topic, partition=letter.partition, offset=letter.kafka_offset) if letter.topic else None
    return LetterDetail(
        letter=summary_of(letter), can=can(letter), message_id=letter.message_id, queue=letter.queue,
        routing_key=letter.routing_key, priority=letter.priority, schema_version=letter.schema_version,
        position=letter.position, quarantined_at=letter.quarantined_at, read_at=place, headers=letter.headers,
        body=body_of(letter.body), stack=letter.stack, group=shown(GroupAnswer, detail.group),
        history=[shown(HistoryAnswer, entry) for entry in detail.history],
        edits=[shown(LineageEdit, edit) for edit in detail.edits], replays=detail.replays,
        siblings=[shown(SiblingAnswer, sibling) for sibling in detail.siblings], runbook=detail.runbook,
    )  # fmt: skip
