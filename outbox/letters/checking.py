"""The only place that checks an edited body before anything is written, and that shows what it changes."""

import difflib
from typing import Any, Final

import msgspec

from orders.commands import BODY_OF, SCHEMA_VERSION, CommandBody, read_command
from orders.envelope import MAX_BODY_BYTES
from orders.errors import BadMessage
from orders.names import Command
from outbox.letters.model import BadEdit, Letter, NotReplayable, Source
from outbox.letters.readable import unreadable

_LONGEST_DIFF: Final = 100_000
_LONGEST_SHOWN: Final = 50_000


def check(letter: Letter, current: bytes, body: bytes) -> Command:
    """The command that this body is. Raises `BadEdit` naming what to change, `NotReplayable` where no body would help."""
    kind = _kind(letter)
    if len(body) > MAX_BODY_BYTES:
        raise BadEdit("body", f"has {len(body)} bytes, at most {MAX_BODY_BYTES}")
    try:
        _, edited = read_command(kind.value, SCHEMA_VERSION, body)
    except BadMessage as error:
        raise BadEdit("body", f"is not one that a worker can read: {error}") from error
    before, values = _parsed(current), msgspec.json.decode(body)
    known = {*BODY_OF[kind].__struct_fields__, *before}
    if strangers := sorted(set(values) - known):
        raise BadEdit(
            f"body.{strangers[0]}", f"{kind.value} has no such field, and it would be ignored: it has {sorted(known)}"
        )
    _check_identity(letter, before, edited)
    why = unreadable(kind.value, SCHEMA_VERSION, body, routing_key=letter.routing_key, message_id=letter.message_id)
    if why:
        raise NotReplayable(f"{letter.letter_id} cannot be sent, whatever its body: {why}. Discard it")
    if _same(kind, letter, current, edited):
        raise BadEdit("body", "says the same as what was sent before: nothing would change. Replay the letter instead")
    return kind


def _kind(letter: Letter) -> Command:
    if letter.source is not Source.COMMAND:
        raise BadEdit(
            "letter",
            f"is no command but comes from {letter.source.value}: its bytes are part of its order's record and stay as they are."
            " Replay it or discard it",
        )
    try:
        return Command(letter.type)
    except ValueError as error:
        told = f"is of an unknown type {letter.type[:50]!r}" if letter.type else "does not say of what type it is"
        raise NotReplayable(f"{letter.letter_id} {told}: no body can be checked against it. Discard it") from error


def _check_identity(letter: Letter, before: dict[str, Any], edited: CommandBody) -> None:
    """The order and the position are what makes it this command: its id follows from them."""
    known = {"order_id": before.get("order_id", letter.order_id), "position": before.get("position", letter.position)}
    for name, value in known.items():
        if value is not None and getattr(edited, name) != value:
            raise BadEdit(
                f"body.{name}", f"is {getattr(edited, name)!r} instead of {value!r}: that would be another command. Leave it"
            )


def _same(kind: Command, letter: Letter, current: bytes, edited: CommandBody) -> bool:
    """Whether a worker reads the same from both. What it cannot read today says nothing."""
    try:
        return read_command(kind.value, letter.schema_version or SCHEMA_VERSION, current)[1] == edited
    except BadMessage:
        return False


def _parsed(body: bytes) -> dict[str, Any]:
    """The fields of a body; none where it is no JSON object."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return {}


def diff(current: bytes, body: bytes) -> str:
    """What changes, line by line, in JSON as people read it; of what is no JSON, what can be shown."""
    lines = difflib.unified_diff(_lines(current), _lines(body), "sent", "edited", lineterm="")
    return "\n".join(lines)[:_LONGEST_DIFF]


def _lines(body: bytes) -> list[str]:
    try:
        text = msgspec.json.format(body[: MAX_BODY_BYTES + 1].decode(), indent=2)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[:_LONGEST_SHOWN].decode(errors="backslashreplace").replace("\x00", "\\x00")
        text += f"\n… {len(body)} bytes" if len(body) > _LONGEST_SHOWN else ""
    return text.splitlines()
