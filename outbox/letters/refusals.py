"""The only place that says which automatic fixes are refused: what matches everything, goes in circles, or touches money. Pure."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, assert_never

import msgspec

from orders.commands import BODY_OF
from orders.errors import Invalid, Refuse
from orders.failures import CATEGORY, Category, FailureType
from orders.names import Command, Fact, audit_action
from orders.rerouting import CLOSING_TIME, REROUTED_AFTER
from outbox.letters import patching
from outbox.letters.matching import Condition, Match, parse
from outbox.letters.model import NeedsApproval
from outbox.letters.rule_model import Compensate, Delay, Discard, Patch, Replay, Rule

MONEY: Final = frozenset({Command.PAYMENT_CHARGE, Command.PAYMENT_REFUND})
MOST_PER_HOUR: Final = 10_000
MOST_PER_LETTER: Final = 10
MOST_GENERATIONS: Final = 10
LONGEST_LIFE: Final = timedelta(days=366)
_LONGEST_WAIT_S: Final = 90 * 86_400
_MOST_BOUND: Final = 1_000
_LONGEST: Final = 200
_LONGEST_DESCRIPTION: Final = 2_000
_MOST_CONDITIONS: Final = 10
_MOST_VALUES: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/:-]{0,99}")
_SLUG: Final = re.compile(r"[a-z][a-z0-9_]{0,49}")
_TYPES: Final = frozenset({*(each.value for each in (*Command, *Fact)), *map(audit_action, Fact)})
_IN_EVERY_BODY: Final = ((), ("order_id",), ("position",))
# What `order.cancel` reads as more than words.
_MEANS_MORE: Final = frozenset({"fraud", CLOSING_TIME, *REROUTED_AFTER})


class MatchesEverything(Refuse):
    """The rule would be about every letter. Say which failure it mends."""

    slug = "rule-matches-everything"


class WouldLoop(Refuse):
    """The rule would send the same letters again and again. Bound it, or let it change what made it match."""

    slug = "rule-would-loop"


def check(rule: Rule, now: datetime) -> None:
    """Raises `Invalid` naming the field, `MatchesEverything`, `WouldLoop`, or `NeedsApproval` for what moves money."""
    if not _NAME.fullmatch(rule.name):
        raise Invalid("name", "give 1 to 100 letters, digits, spaces and . _ / : -, beginning with a letter or digit")
    if len(rule.description) > _LONGEST_DESCRIPTION:
        raise Invalid("description", f"is longer than {_LONGEST_DESCRIPTION} characters")
    for field in ("description", "match", "action"):
        if _has_nul(msgspec.to_builtins(getattr(rule, field))):
            raise Invalid(field, "holds a NUL character, which no database keeps")
    _number(rule.per_hour, 1, MOST_PER_HOUR, "per_hour")
    _number(rule.per_letter, 1, MOST_PER_LETTER, "per_letter")
    _time(rule.expires_at, now, now + LONGEST_LIFE, "expires_at")
    _check_match(rule.match)
    _check_action(rule, now)


def _has_nul(value: Any) -> bool:
    """Whether there is a NUL in any text of a JSON value, names of members included, however deep it is nested."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting += [*found, *found.values()]
        elif isinstance(found, list | tuple):
            waiting += found
        elif isinstance(found, str) and "\x00" in found:
            return True
    return False


def _number(number: int | None, least: int, most: int, field: str) -> None:
    if number is not None and not least <= number <= most:
        raise Invalid(field, f"{number} is out of range: give {least} to {most}")


def _time(at: datetime, after: datetime, until: datetime, field: str) -> None:
    if at.tzinfo is None:
        raise Invalid(field, "has no time zone: end it in Z, or in an offset")
    if not after < at <= until:
        first, last = (edge.astimezone(UTC).isoformat(timespec="seconds") for edge in (after, until))
        raise Invalid(field, f"{at.isoformat()} is not between {first} and {last}")


def _check_match(match: Match) -> None:
    for name in ("fingerprint", "consumer", "reason", "error"):
        text = getattr(match, name)
        if text is not None and not 0 < len(text) <= _LONGEST:
            raise Invalid(f"match.{name}", f"give 1 to {_LONGEST} characters")
    for number, kind in enumerate(match.types):
        if kind not in _TYPES:
            raise Invalid(f"match.types[{number}]", f"there is no command, fact or audit action {kind[:50]!r}")
    _check_bounds(match.min_attempts, match.max_attempts, "attempts")
    _check_bounds(match.min_generation, match.max_generation, "generation")
    if len(match.body) > _MOST_CONDITIONS:
        raise Invalid("match.body", f"has more than {_MOST_CONDITIONS} conditions")
    for number, condition in enumerate(match.body):
        _check_condition(condition, f"match.body[{number}]")
    if not categories(match):
        raise Invalid("match.category", f"no failure type that is named is {match.category}: no letter has both")
    if not _selects(match):
        raise MatchesEverything("every letter meets this match: name a failure type, a type, a consumer, a reason, …")


def _check_bounds(least: int | None, most: int | None, name: str) -> None:
    _number(least, 0, _MOST_BOUND, f"match.min_{name}")
    _number(most, 1, _MOST_BOUND, f"match.max_{name}")
    if least is not None and most is not None and least > most:
        raise Invalid(f"match.min_{name}", f"{least} is more than max_{name}: no letter has so many")


def _check_condition(condition: Condition, field: str) -> None:
    parse(condition.path, f"{field}.path")
    given = [each for each in (condition.equals, condition.exists, condition.one_of) if each is not msgspec.UNSET]
    if len(given) != 1:
        raise Invalid(field, "give exactly one of equals, exists and in")
    if condition.one_of is not msgspec.UNSET and not 0 < len(condition.one_of) <= _MOST_VALUES:
        raise Invalid(f"{field}.in", f"give 1 to {_MOST_VALUES} values")
    if patching.depth(given) > patching.DEEPEST:
        raise Invalid(field, f"is nested more than {patching.DEEPEST} deep")


def categories(match: Match) -> frozenset[Category]:
    """The categories that matching letters can have."""
    found = frozenset(CATEGORY[kind] for kind in match.failure_types) or frozenset(Category)
    return found & {match.category} if match.category else found


def _selects(match: Match) -> bool:
    """Whether there are letters that it is not about. How often something failed tells nothing of what it is."""
    named = (match.fingerprint, match.category, match.consumer, match.reason, match.error)
    return (
        any(each is not None for each in named)
        or 0 < len(set(match.failure_types)) < len(FailureType)
        or 0 < len(set(match.types)) < len(_TYPES)
        or any(_tells(condition) for condition in match.body)
    )


def _tells(condition: Condition) -> bool:
    return condition.exists is not True or parse(condition.path) not in _IN_EVERY_BODY


def _check_action(rule: Rule, now: datetime) -> None:
    match rule.action:
        case Replay():
            _check_again(rule)
        case Delay() as delay:
            _check_delay(delay, rule, now)
            _check_again(rule)
        case Patch(patch=patch):
            _check_patch(patch, rule)
        case Compensate(reason=reason):
            _check_compensation(reason, rule)
        case Discard(reason=reason, after_s=after_s):
            if not 0 < len(reason.strip()) <= _LONGEST:
                raise Invalid("action.reason", f"give 1 to {_LONGEST} characters: why these letters can be given up")
            _number(after_s, 0, _LONGEST_WAIT_S, "action.after_s")
            if Command.PAYMENT_REFUND in _named_types(rule, "what is given up must be known"):
                raise NeedsApproval("a refund is never given up by a rule: it is somebody's money. Look at each letter")
        case _:
            assert_never(rule.action)


def _named_types(rule: Rule, why: str) -> Sequence[str]:
    if not rule.match.types:
        raise Invalid("match.types", f"name the types that the rule is about: {why}")
    return rule.match.types


def _check_again(rule: Rule) -> None:
    """What cannot pass by itself is not sent as it is, unless somebody says how often at most."""
    if rule.match.max_generation is not None:
        _number(rule.match.max_generation, 1, MOST_GENERATIONS, "match.max_generation")
    elif categories(rule.match) != {Category.TRANSIENT}:
        raise WouldLoop(
            "it sends again, unchanged, what may be a permanent failure or poison: give match.max_generation, or name only "
            "transient failure types in match.failure_types"
        )


def _check_delay(delay: Delay, rule: Rule, now: datetime) -> None:
    if (delay.for_s is None) == (delay.until is None):
        raise Invalid("action", "give exactly one of for_s and until")
    _number(delay.for_s, 1, _LONGEST_WAIT_S, "action.for_s")
    if delay.until is not None:
        _time(delay.until, now, rule.expires_at, "action.until")


def _check_compensation(reason: str, rule: Rule) -> None:
    if not _SLUG.fullmatch(reason):
        raise Invalid("action.reason", "give a word of a-z, 0-9 and _, as the order and its customer are told")
    if reason in _MEANS_MORE:
        raise Invalid("action.reason", f"{reason} is not a rule's to say: order.cancel does more than end the order then")
    if Command.ORDER_CANCEL in _named_types(rule, "order.cancel itself must not be among them"):
        raise WouldLoop("it would answer a failed order.cancel with another order.cancel: take it out of match.types")


def _check_patch(patch: dict[str, Any], rule: Rule) -> None:
    kinds = _named_types(rule, "what it patches must be known")
    if MONEY & set(kinds):
        raise NeedsApproval("commands that move money are not patched by a rule: edit the letter, and a second person approves")
    patching.check(patch, "action.patch")
    for number, name in enumerate(kinds):
        if name not in BODY_OF:
            raise Invalid(f"match.types[{number}]", f"{name} is a fact, and what happened is not patched")
        _check_fields(patch, Command(name))
    if rule.match.max_generation is not None:
        _number(rule.match.max_generation, 1, MOST_GENERATIONS, "match.max_generation")
    elif not patching.ends_match(patch, rule.match.body):
        raise WouldLoop("what it patches still matches: give match.max_generation, or a condition that the patch makes false")


def _check_fields(patch: dict[str, Any], kind: Command) -> None:
    """What the command does not have would be ignored, and the patch with it; what it needs cannot be taken away."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(BODY_OF[kind])}
    for name, value in patch.items():
        place = f"action.patch.{name}"
        if name not in fields:
            raise Invalid(place, f"{kind.value} has no such field; it has {', '.join(fields)}")
        if value is None:
            if fields[name].required:
                raise Invalid(place, f"{kind.value} cannot be without it")
            continue
        try:
            msgspec.convert(patching.merge({}, value) if isinstance(value, dict) else value, fields[name].type)
        except msgspec.ValidationError as error:
            raise Invalid(place, f"{kind.value} does not take it: {error}") from error
