"""The only place for JSON Merge Patch (RFC 7396): what it makes of a body, and what is certain about that beforehand. Pure."""

import difflib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from orders.errors import Invalid
from outbox.letters.matching import NOTHING, Condition, Step, at, holds, parse, read

DEEPEST: Final = 20
IDENTITY: Final = ("order_id", "position")  # of a command: who changes it makes another command


class Unchanged:
    """What a patch leaves as it is, whatever that is."""


UNCHANGED: Final = Unchanged()


def merge(target: Any, patch: Any) -> Any:
    """The target with the patch applied, as RFC 7396 says: null removes, objects are merged, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def patched(body: bytes, patch: Any) -> bytes:
    """The body with the patch applied. Raises `Invalid` for a body that is no JSON."""
    value = read(body)
    if value is NOTHING:
        raise Invalid("body", "is not JSON of a readable size: there is nothing to patch. Edit the letter, or discard it")
    return msgspec.json.encode(merge(value, patch))


def check(patch: Any, field: str) -> None:
    """Refuse a patch that no command survives: not an object, empty, too deep, or one that touches a command's identity."""
    if not isinstance(patch, dict) or not patch:
        raise Invalid(field, "give an object with what is to change; null removes")
    if depth(patch) > DEEPEST:
        raise Invalid(field, f"is nested more than {DEEPEST} deep")
    for name in IDENTITY:
        if name in patch:
            raise Invalid(f"{field}.{name}", "is part of the command's identity and cannot be patched")


def depth(value: Any) -> int:
    """How deeply a JSON value is nested."""
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return deepest


def certain(patch: Any, steps: Sequence[Step]) -> Any:
    """What is at these steps once the patch was applied to any body: a value, `NOTHING`, or `UNCHANGED` where it depends."""
    for number, step in enumerate(steps):
        if not isinstance(patch, dict):
            return at(patch, steps[number:])
        if not isinstance(step, str):
            return NOTHING  # a merge makes an object here, and objects have no places by number
        if step not in patch:
            return UNCHANGED
        patch = patch[step]
        if patch is None:
            return NOTHING
    return _whole(patch)


def _whole(patch: Any) -> Any:
    """A part of a patch as a value: an object is merged into something unknown, so only scalars and arrays are certain."""
    return UNCHANGED if isinstance(patch, dict) else patch


def ends_match(patch: Any, conditions: Sequence[Condition]) -> bool:
    """Whether no patched body can meet all these conditions, so that the patch cannot be applied twice."""
    for condition in conditions:
        after = certain(patch, parse(condition.path))
        if after is not UNCHANGED and not holds(condition, after):
            return True
    return False


def difference(before: bytes, after: bytes) -> str:
    """What changed, line by line, both bodies spelled out."""
    lines = (_spelled(before), _spelled(after))
    return "\n".join(difflib.unified_diff(*lines, fromfile="before", tofile="after", lineterm="", n=1))


def _spelled(body: bytes) -> list[str]:
    value = read(body)
    if value is NOTHING:
        return [repr(body[:200])]
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2).decode().splitlines()
