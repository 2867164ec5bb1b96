"""The only place that reads and writes automatic fixes. What they are: `rule_model`; which are refused: `refusals`."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from adapters.postgres import Connection, transaction
from orders.errors import Invalid, NotFound, Refuse
from orders.ids import derived_id, new_id
from orders.names import Act
from outbox.letters import desk
from outbox.letters import rules_sql as sql
from outbox.letters.foretelling import DryRun, dry_run
from outbox.letters.refusals import check
from outbox.letters.rule_model import SHIPPED_PREFIX, Rule, as_rule, read_rule
from outbox.transition import Executor

__all__ = ["HOUR", "DryRun", "Rule", "dry_run", "get", "install", "list_rules", "put", "read_rule", "switch"]

_SHOWN: Final = 20_000  # bytes of a rule that its audit event holds in full
HOUR: Final = timedelta(hours=1)  # what `per_hour` counts over


class NoSuchRule(NotFound):
    """There is no rule with this id or name."""

    slug = "rule-not-found"


class RuleExists(Refuse):
    """There is a rule with this name."""

    slug = "rule-exists"


class RuleMoved(Refuse):
    """Somebody else has changed the rule since it was read. Read it again, then decide."""

    slug = "rule-moved"


class ShippedRule(Refuse):
    """It came with the library: switch it or limit it, but copy it under another name to change what it does."""

    slug = "rule-is-shipped"


async def put(
    db: Executor, rule: Rule, *, actor: str, now: datetime, version: int | None = None, dry_run: bool = False
) -> Rule:
    """Write a new rule (`version` None), or change the one of this id or name that has this version. Returns it as written.

    Raises `RuleExists`, `NoSuchRule`, `RuleMoved`, `ShippedRule`, and what `refusals.check` raises; nothing is changed then.
    Whatever the engine does with the old version ends before this returns.
    """
    check(rule, now)
    async with transaction(db) as conn:
        found = await conn.fetchrow(sql.HOLD, rule.rule_id, rule.name)
        old = None if found is None else as_rule(found)
        _may_write(rule, old, version)
        if dry_run:
            return rule
        key = old.rule_id if old else new_id("rul")
        values = _columns(rule)
        written = await conn.fetchrow(sql.UPDATE if old else sql.INSERT, key, *values, actor, now)
        if written is None:
            raise RuleExists(f"there is a rule {rule.name!r} by now: give another name")
        await _tell(conn, "changed" if old else "created", as_rule(written), actor, now)
    return as_rule(written)


def _may_write(rule: Rule, old: Rule | None, version: int | None) -> None:
    if old is None:
        if version is not None or rule.rule_id:
            raise NoSuchRule(f"there is no rule {rule.rule_id or rule.name!r}")
        if rule.name.startswith(SHIPPED_PREFIX):
            raise Invalid("name", f"names that begin with {SHIPPED_PREFIX} are those of shipped rules")
        return
    if version is None:
        raise RuleExists(f"there is a rule {old.name!r}: give its version ({old.version}) to change it, or another name")
    if version != old.version:
        raise RuleMoved(f"{old.name!r} has version {old.version} by now, not {version}: read it again, then decide")
    same = (rule.name, rule.description, rule.match, rule.action) == (old.name, old.description, old.match, old.action)
    if old.shipped and not same:
        raise ShippedRule(f"{old.name!r} came with the library: switch it or limit it, or copy it under another name")
    if not old.shipped and rule.name.startswith(SHIPPED_PREFIX):
        raise Invalid("name", f"names that begin with {SHIPPED_PREFIX} are those of shipped rules")


async def switch(db: Executor, name: str, *, enabled: bool, version: int | None, actor: str, now: datetime) -> Rule:
    """Switch a rule on or off, by its id or name. Off holds from the moment this returns.

    Raises `NoSuchRule`, `RuleMoved`, and `Invalid` where one that has expired is switched on.
    """
    rule = await get(db, name, now=now)
    wanted = msgspec.structs.replace(rule, enabled=enabled)
    if not enabled:  # never refused for what the rule says: off must always be possible
        async with transaction(db) as conn:
            written = await conn.fetchrow(sql.SWITCH_OFF, rule.rule_id, version, actor, now)
            if written is None:
                raise RuleMoved(f"{rule.name!r} has another version than {version} by now: read it again, then decide")
            await _tell(conn, "switched_off", as_rule(written), actor, now)
        return as_rule(written)
    return await put(db, wanted, actor=actor, now=now, version=version or rule.version)


async def list_rules(db: Executor, *, now: datetime, hour: timedelta = HOUR) -> list[Rule]:
    """All rules in the order in which they are asked: people's before those of the library, then by name."""
    return [as_rule(record) for record in await db.fetch(sql.LIST, now - hour, None)]


async def get(db: Executor, name: str, *, now: datetime, hour: timedelta = HOUR) -> Rule:
    """The rule with this id or name. Raises `NoSuchRule`."""
    records = await db.fetch(sql.LIST, now - hour, name)
    if not records:
        raise NoSuchRule(f"there is no rule {name!r}")
    return as_rule(records[0])


async def install(db: Executor, shipped: Sequence[Rule], *, now: datetime) -> int:
    """Write the shipped rules; returns how many changed. An operator's switch, limits and expiry stay. Idempotent.

    A rule that is no longer shipped is switched off.
    """
    installed, keys = list[Rule](), [derived_id("rul", rule.name) for rule in shipped]
    async with transaction(db) as conn:
        for key, rule in sorted(zip(keys, shipped, strict=True), key=lambda pair: pair[0]):
            version = await conn.fetchval(sql.INSTALL, key, *_columns(rule), desk.LIBRARY, now)
            if version is not None:
                installed.append(msgspec.structs.replace(rule, rule_id=key, version=version))
        retired = await conn.fetch(sql.RETIRE, keys, now)
        for each in installed:
            await _tell(conn, "installed", each, desk.LIBRARY, now)
        for row in retired:
            await _tell_of(conn, "retired", dict(row), desk.LIBRARY, now)
    return len(installed)


async def expire(conn: Connection, now: datetime) -> int:
    """Say of rules that they have expired, once each, in the caller's transaction. How many."""
    expired = await conn.fetch(sql.EXPIRED, now)
    for row in expired:
        await _tell_of(conn, "expired", dict(row), desk.KEEPER, now)
    return len(expired)


async def _tell(conn: Connection, act: str, rule: Rule, actor: str, now: datetime) -> None:
    """Into the audit trail: which rule, and what it says now."""
    says = msgspec.json.encode({"match": rule.match, "action": rule.action}, order="deterministic")
    told = {
        "rule_id": rule.rule_id, "name": rule.name, "version": rule.version, "enabled": rule.enabled, "per_hour": rule.per_hour,
        "per_letter": rule.per_letter, "expires_at": rule.expires_at.isoformat(), "sha256": hashlib.sha256(says).hexdigest(),
        "says": says.decode() if len(says) <= _SHOWN else None,
    }  # fmt: skip
    await _tell_of(conn, act, told, actor, now)


async def _tell_of(conn: Connection, act: str, told: dict[str, Any], actor: str, now: datetime) -> None:
    cause = f"{told['rule_id']}/{told['version']}/{act}"
    await desk.tell(conn, Act.RULE_CHANGED, {"act": act, **told}, actor=actor, cause=cause, now=now)


def _columns(rule: Rule) -> tuple[Any, ...]:
    match, action = msgspec.to_builtins(rule.match), msgspec.to_builtins(rule.action)
    return rule.name, rule.description, match, action, rule.enabled, rule.per_hour, rule.per_letter, rule.expires_at
