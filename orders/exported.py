"""The only place that reads an exported event as a stranger does: one line, one spelling, and which rule it breaks if it breaks one.

Standard library only.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from orders.chain import MAX_EVENT_BYTES, NotCanonicalError, canonical, chain_of, event_hash

VERSION: Final = 1
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST: Final = 2**53 - 1
_SHOWN: Final = 24
_TEXTS: Final = ("event_id", "action", "service", "occurred_at")


class LineRefused(ValueError):  # noqa: N818  # named after what becomes of it
    """A line is no event in its one spelling. `kind` is a stable word, the message names the rule."""

    def __init__(self, kind: str, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Exported:
    """An event as its line has it. `computed`: the hash that its contents have."""

    line: int
    body: bytes
    chain: str
    position: int
    event_id: str
    occurred_at: datetime
    prev_hash: str
    hash: str
    computed: str


def read_line(number: int, body: bytes) -> Exported:
    """The event in a line, without the newline. Raises `LineRefused`."""
    if len(body) > MAX_EVENT_BYTES:
        raise LineRefused("too-large", f"an event may have {MAX_EVENT_BYTES} bytes, this one has {len(body)}")
    event = _object(body)
    _in_one_spelling(event, body)
    position = event.get("position")
    if event.get("v") is True or event.get("v") != VERSION:
        raise LineRefused("version", f"v is {event.get('v')!r}; this program reads events of version {VERSION}")
    if not isinstance(position, int) or isinstance(position, bool) or position < 1:
        raise LineRefused("field", f"position is {position!r}, and must be a whole number from 1 on")
    for name in _TEXTS:
        if not isinstance(event.get(name), str):
            raise LineRefused("field", f"{name} is {event.get(name)!r}, and must be text")
    for name in ("hash", "prev_hash"):
        if not isinstance(event.get(name), str) or not _HASH.fullmatch(event[name]):
            raise LineRefused("field", f"{name} is {str(event.get(name))[:80]!r}, and must be 64 hexadecimal digits")
    if not isinstance(event.get("chain") or event.get("order_id"), str):
        raise LineRefused("field", "it names neither a chain nor an order, so that it belongs to no chain")
    return Exported(
        number, body, chain_of(event), position, event["event_id"], _time(event["occurred_at"]), event["prev_hash"], event["hash"],
        event_hash(event),
    )  # fmt: skip


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise LineRefused("field", f"occurred_at is {text[:80]!r}, and must be a time with its zone, in ISO 8601")
    return found


def _object(body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(
            body.decode(), object_pairs_hook=_pairs, parse_float=_no_float, parse_constant=_no_float, parse_int=_integer
        )
    except UnicodeDecodeError as error:
        raise LineRefused("not-canonical", f"byte {error.start} is no UTF-8") from error
    except json.JSONDecodeError as error:
        raise LineRefused("not-canonical", f"it is no JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise LineRefused("not-canonical", "it is nested too deeply") from error
    if not isinstance(event, dict):
        raise LineRefused("not-canonical", "an event is a JSON object")
    return event


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for before, name in itertools.pairwise(names):
        if name == before:
            raise LineRefused("not-canonical", f"the key {name!r} is there twice")
        if name < before:
            raise LineRefused("not-canonical", f"the keys are not sorted: {name!r} comes after {before!r}")
    for name in names:
        if not name.isascii():
            raise LineRefused("not-canonical", f"the key {name!r} is not ASCII")
    return dict(pairs)


def _no_float(text: str) -> NoReturn:
    raise LineRefused("not-canonical", f"the number {text[:_SHOWN]} is no whole number, spelled as digits")


def _integer(text: str) -> int:
    if len(text) > len(str(_LARGEST)) + 1 or abs(int(text)) > _LARGEST:
        raise LineRefused("not-canonical", f"the number {text[:_SHOWN]} is beyond 2^53-1")
    return int(text)


def _in_one_spelling(event: dict[str, Any], body: bytes) -> None:
    try:
        meant = canonical(event)
    except NotCanonicalError as error:
        raise LineRefused("not-canonical", str(error)) from error
    if meant != body:
        at = next(_differences(meant, body))
        raise LineRefused(
            "not-canonical",
            f"at byte {at} it is spelled {_around(body, at)}, and the canonical form has {_around(meant, at)} (no blanks, no escape that "
            f"is not needed)",
        )


def _differences(one: bytes, other: bytes) -> Iterator[int]:
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            yield at
    yield min(len(one), len(other))


def _around(data: bytes, at: int) -> str:
    return repr(data[max(at - 4, 0) : at + _SHOWN - 4].decode(errors="replace"))
