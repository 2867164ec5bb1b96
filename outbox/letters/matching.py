"""The only place that says which letters a rule is about: conditions on what failed, and JSON paths into the body. Pure.

Of RFC 9535 the part that names one place: `$`, `.name`, `['name']`, `[0]`, `[-1]`. What would name several (wildcards, slices,
filters, `..`) is refused, since nobody could say what such a rule will do.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from orders.errors import Invalid
from orders.failures import Category, FailureType

Step: TypeAlias = "str | int"
LONGEST_PATH: Final = 200
LARGEST_BODY: Final = 262_144  # a larger one meets no condition on its content
_NAME: Final = re.compile(r"\.([A-Za-z_\u0080-\uD7FF\uE000-\U0010FFFF][0-9A-Za-z_\u0080-\uD7FF\uE000-\U0010FFFF]*)")
_INDEX: Final = re.compile(r"\[\s*(0|-?[1-9][0-9]{0,8})\s*\]")
_QUOTED: Final = re.compile(r"""\[\s*(?:'((?:[^'\\\x00-\x1f]|\\.)*)'|"((?:[^"\\\x00-\x1f]|\\.)*)")\s*\]""")


class Nothing:
    """What is at a place that a body does not have. Equal to no value, not even to null."""


NOTHING: Final = Nothing()


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """About one place in the body: it equals a value, is one of several, or is there at all. Exactly one of the three."""

    path: str
    equals: Any = msgspec.UNSET
    exists: bool | msgspec.UnsetType = msgspec.UNSET
    one_of: tuple[Any, ...] | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="in")


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which letters: all that is given must hold. `types`, `failure_types`: any of them."""

    fingerprint: str | None = None
    failure_types: tuple[FailureType, ...] = ()
    category: Category | None = None
    types: tuple[str, ...] = ()
    consumer: str | None = None
    reason: str | None = None
    error: str | None = None
    min_attempts: int | None = None
    max_attempts: int | None = None
    min_generation: int | None = None
    max_generation: int | None = None
    body: tuple[Condition, ...] = ()


class Kind(Protocol):
    """What letters of one group have in common."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def failure_type(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def consumer(self) -> str: ...
    @property
    def error(self) -> str: ...


class Matchable(Kind, Protocol):
    """What is known of a letter when rules look at it. `body` is empty where no rule asks for it."""

    @property
    def reason(self) -> str: ...
    @property
    def attempts(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def body(self) -> bytes: ...


def matches(match: Match, letter: Matchable) -> bool:
    """Whether everything that the match asks for holds of this letter."""
    return (
        may_match(match, letter)
        and match.reason in (None, letter.reason)
        and _within(letter.attempts, match.min_attempts, match.max_attempts)
        and _within(letter.generation, match.min_generation, match.max_generation)
        and (not match.body or _all_hold(match.body, letter.body))
    )


def may_match(match: Match, kind: Kind) -> bool:
    """Whether a letter of this kind can match: what all letters of a group have in common does not exclude it."""
    return (
        match.fingerprint in (None, kind.fingerprint)
        and match.category in (None, kind.category)
        and match.consumer in (None, kind.consumer)
        and match.error in (None, kind.error)
        and (not match.failure_types or kind.failure_type in match.failure_types)
        and (not match.types or kind.type in match.types)
    )


def _within(number: int, least: int | None, most: int | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most)


def _all_hold(conditions: Sequence[Condition], body: bytes) -> bool:
    value = read(body)
    return all(holds(condition, at(value, parse(condition.path))) for condition in conditions)


def read(body: bytes) -> Any:
    """The body's JSON value, or `NOTHING` for what is none, is too large or is nested too deeply to be looked at."""
    if len(body) > LARGEST_BODY:
        return NOTHING
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NOTHING


def holds(condition: Condition, found: Any) -> bool:
    """Whether the condition is met by what was found at its path."""
    if condition.exists is not msgspec.UNSET:
        return (found is not NOTHING) == condition.exists
    if condition.one_of is not msgspec.UNSET:
        return any(same(found, value) for value in condition.one_of)
    return same(found, condition.equals)


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: numbers by their value, and `true` is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def parse(path: str, field: str = "path") -> tuple[Step, ...]:
    """The steps of a path. Raises `Invalid` naming `field` and where the path cannot be followed."""
    if not path.startswith("$"):
        raise Invalid(field, f"{path[:LONGEST_PATH]!r} must begin with $")
    if len(path) > LONGEST_PATH:
        raise Invalid(field, f"is longer than {LONGEST_PATH} characters")
    steps: list[Step] = []
    place = 1
    while place < len(path):
        step, place = _step(path, place, field)
        steps.append(step)
    return tuple(steps)


def _step(path: str, place: int, field: str) -> tuple[Step, int]:
    if name := _NAME.match(path, place):
        return name[1], name.end()
    if index := _INDEX.match(path, place):
        return int(index[1]), index.end()
    if quoted := _QUOTED.match(path, place):
        try:
            return _unquoted(quoted), quoted.end()
        except msgspec.DecodeError as error:
            raise Invalid(field, f"the name at character {place} has an escape that JSON does not know") from error
    raise Invalid(
        field,
        f"cannot be followed from character {place} ({path[place : place + 10]!r}); give .name, ['name'] or [0]: wildcards, "
        "slices, filters and .. are not taken",
    )


def _unquoted(quoted: re.Match[str]) -> str:
    """The name between the quotes. Escapes are JSON's; in single quotes the single one is escaped instead of the double."""
    if quoted[2] is not None:
        text = quoted[2]
    else:
        text = re.sub(r"\\.|\"", lambda part: {"\\'": "'", '"': '\\"'}.get(part[0], part[0]), quoted[1])
    return msgspec.json.decode(f'"{text}"', type=str)


def at(value: Any, steps: Sequence[Step]) -> Any:
    """What is at the end of these steps, or `NOTHING`."""
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return NOTHING
        elif not isinstance(value, list) or not -len(value) <= step < len(value):
            return NOTHING
        value = value[step]
    return value
