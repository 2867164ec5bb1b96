"""The only place for the shapes of what operators are shown, over HTTP and by `rushline dlq --json` alike.

The bytes of a message are data: shown as text where they are one, else as base64, and cut where they are long.
"""

import base64
import hashlib
from datetime import datetime
from typing import Final, Literal

import msgspec

from outbox.letters.model import Letter

SHOWN_BYTES: Final = 65_536


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
    """How many there are; `exact` is false where there are so many that they were estimated."""

    number: int
    exact: bool


class Letters(msgspec.Struct, frozen=True, kw_only=True):
    """A page of letters, the latest failure first. `next_cursor` is null on the last."""

    letters: list[LetterSummary]
    next_cursor: str | None
    count: CountAnswer


class BodyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A message's body as it was sent. `encoding` says how `data` shows it; `bytes` and `sha256` are of all of it."""

    encoding: Literal["utf-8", "base64"]
    data: str
    bytes: int
    sha256: str
    cut: bool


def body_of(body: bytes) -> BodyAnswer:
    """The first part of a body, in a spelling that keeps each byte."""
    shown = body[:SHOWN_BYTES]
    cut = len(shown) < len(body)
    digest = hashlib.sha256(body).hexdigest()
    try:
        text = shown.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        split = cut and error.reason == "unexpected end of data"  # we cut within a character, the sender did not
        if not split:
            data = base64.b64encode(shown).decode()
            return BodyAnswer(encoding="base64", data=data, bytes=len(body), sha256=digest, cut=cut)
        text = shown[: error.start].decode()
    return BodyAnswer(encoding="utf-8", data=text, bytes=len(body), sha256=digest, cut=cut)


def summary_of(letter: Letter) -> LetterSummary:
    return msgspec.convert(letter, LetterSummary, from_attributes=True)
