"""The only place that says what an automatic fix is: which letters, what is done with them, how often, until when."""

from datetime import datetime
from typing import Any, Final

import msgspec

from adapters.postgres import Record
from orders.errors import Invalid
from outbox.letters.matching import Match

DEFAULT_PER_LETTER: Final = 3
SHIPPED_PREFIX: Final = "library/"


class _Does(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="do"):
    """What a rule does with a letter."""


class Replay(_Does, frozen=True, kw_only=True, tag="replay"):
    """Send it again as it is."""


class Patch(_Does, frozen=True, kw_only=True, tag="patch"):
    """Apply a JSON Merge Patch (RFC 7396) to the body, then send it again."""

    patch: dict[str, Any]


class Delay(_Does, frozen=True, kw_only=True, tag="delay"):
    """Snooze it until a time, or for so long since it was parked, then send it again as it is."""

    for_s: int | None = None
    until: datetime | None = None


class Compensate(_Does, frozen=True, kw_only=True, tag="compensate"):
    """Cancel its order, which undoes what was done for it. `reason`: as the order and its customer are told."""

    reason: str


class Discard(_Does, frozen=True, kw_only=True, tag="discard"):
    """Give it up, at once or so long after it was parked."""

    reason: str
    after_s: int = 0


Action = Replay | Patch | Delay | Compensate | Discard


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An automatic fix. What is below the line is ours to set."""

    name: str
    match: Match
    action: Action
    expires_at: datetime
    description: str = ""
    enabled: bool = True
    per_hour: int = 100  # uses
    per_letter: int = DEFAULT_PER_LETTER  # uses in a letter's whole life, and never two for one failure
    # ---
    rule_id: str = ""
    version: int = 0
    shipped: bool = False
    updated_by: str = ""
    updated_at: datetime | None = None
    used_last_hour: int = 0
    last_used_at: datetime | None = None

    @property
    def actor(self) -> str:
        """Who acts, in histories and in the audit trail."""
        return f"rule:{self.rule_id}"

    def lives(self, now: datetime) -> bool:
        """Whether it may be used now."""
        return self.enabled and now < self.expires_at


def as_rule(record: Record) -> Rule:
    """The rule in a row of ours."""
    return msgspec.convert(dict(record), Rule)


def read_rule(given: bytes | dict[str, Any]) -> Rule:
    """The rule in these JSON bytes or values, as a person gave it. Raises `Invalid` naming the field."""
    try:
        rule = msgspec.json.decode(given, type=Rule) if isinstance(given, bytes) else msgspec.convert(given, Rule)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise Invalid(place.rstrip("`").lstrip(".") or "rule", problem) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("rule", f"is not JSON: {error}") from error
    return rule
