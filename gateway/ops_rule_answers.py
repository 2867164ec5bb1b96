"""The only place for the shapes in which automatic fixes are shown, over HTTP and by `rushline dlq rules --json` alike."""

from datetime import datetime

import msgspec

from outbox.letters.matching import Match
from outbox.letters.rule_model import Action, Rule


class RuleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An automatic fix. `shipped`: it came with the library. `lives`: it is on, and has not expired."""

    rule_id: str
    name: str
    description: str
    lives: bool
    enabled: bool
    match: Match
    action: Action
    per_hour: int
    per_letter: int
    expires_at: datetime
    used_last_hour: int
    last_used_at: datetime | None
    shipped: bool
    version: int
    updated_by: str
    updated_at: datetime | None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """All automatic fixes, in the order in which they are asked."""

    rules: list[RuleAnswer]


class ExampleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One letter and what the rule would do with it. `problem`: why that would not work."""

    letter_id: str
    type: str
    state: str
    effect: str
    diff: str
    problem: str


class DryRunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule is about. `open`: letters that it would take now; `asleep`: those of them that it takes when they wake;
    `taken`: open ones that a rule before it takes; `over_limit`: how many of the past would have had to wait; `unworkable`: those with a problem; `complete`: all were looked at.
    """

    days: int
    looked_at: int
    matching: int
    by_state: dict[str, int]
    open: int
    asleep: int
    taken: int
    over_limit: int
    unworkable: int
    complete: bool
    examples: list[ExampleAnswer]


class UseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One use of a rule. `generation`: which failure of the letter it was for. `state`: of the letter now."""

    letter_id: str
    generation: int
    at: datetime
    outcome: str
    type: str
    order_id: str | None
    state: str


class Uses(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a rule's uses, the latest first. `next_cursor` is null on the last."""

    uses: list[UseAnswer]
    next_cursor: str | None


def rule_answer(rule: Rule, now: datetime) -> RuleAnswer:
    given = {name: getattr(rule, name) for name in RuleAnswer.__struct_fields__ if name != "lives"}
    return RuleAnswer(**given, lives=rule.lives(now))
