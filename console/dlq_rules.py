"""The verbs of automatic fixes: list, show, write, try on past letters, switch on and off."""

from datetime import datetime
from typing import Any, Final

import click
import msgspec

from console import dlq_words as words
from console.dlq_base import AS_JSON, changed, changes, done, now
from console.dlq_changes import TRIED
from gateway.ops_answers import shown
from gateway.ops_rule_answers import DryRunAnswer, RuleAnswer, Rules, UseAnswer, rule_answer

_RULE: Final = click.argument("rule")
_FILE: Final = click.argument("file", type=click.File("rb"))
_SHOWN_USES: Final = 10
_OURS: Final = frozenset({"lives", "shipped", "updated_by", "updated_at", "used_last_hour", "last_used_at"})


@click.group(short_help="Automatic fixes.")
def rules() -> None:
    """Automatic fixes: which letters they are about, what they do with them, how often, until when.

    A rule is a JSON object: {"name": …, "match": {"failure_types": ["payment_timeout"]}, "action": {"do": "replay"},
    "expires_at": "2026-12-31T00:00:00Z"}. `rushline dlq rules show RULE --json` prints one as `put` takes it.
    """


@rules.command("list")
@AS_JSON
def list_(*, as_json: bool) -> None:
    """All automatic fixes, in the order in which they are asked."""
    at = now()

    async def work(conn: Any) -> list[RuleAnswer]:
        from outbox.letters import rules as module

        return [rule_answer(rule, at) for rule in await module.list_rules(conn, now=at)]

    found = done(work)
    if as_json:
        words.as_json(Rules(rules=found))
    elif not found:
        click.echo("There are no rules. `rushline worker letters` installs the library when it starts.")
    else:
        rows = [
            (each.name, _mode(each, at), each.action.__class__.__name__.lower(), f"{each.used_last_hour}/{each.per_hour}",
             each.last_used_at and words.ago(each.last_used_at, at), f"{each.expires_at:%Y-%m-%d}", each.description)
            for each in found
        ]  # fmt: skip
        words.table(("rule", "mode", "does", "this hour", "last used", "expires", "what for"), rows, fold=True)


def _mode(rule: RuleAnswer, at: datetime) -> str:
    if rule.lives:
        return "on"
    return "expired" if rule.enabled and rule.expires_at <= at else "off"


@rules.command()
@_RULE
@AS_JSON
def show(rule: str, *, as_json: bool) -> None:
    """An automatic fix, by its name or id, and what it did last."""
    at = now()

    async def work(conn: Any) -> tuple[RuleAnswer, list[UseAnswer]]:
        from outbox.letters import rules as module
        from outbox.letters import uses

        found = await module.get(conn, rule, now=at)
        used = await uses.of_rule(conn, found.rule_id, limit=_SHOWN_USES)
        return rule_answer(found, at), [shown(UseAnswer, use) for use in used]

    found, used = done(work)
    if as_json:
        words.as_json(found)
        return
    words.heading(f"{found.name} ({_mode(found, at)}, version {found.version})")
    words.facts([
        ("what for", found.description), ("match", msgspec.json.encode(found.match).decode()),
        ("action", msgspec.json.encode(found.action).decode()), ("limits", f"{found.per_hour} an hour, {found.per_letter} a letter"),
        ("expires", found.expires_at), ("last written", f"by {found.updated_by}"), ("id", found.rule_id),
        ("comes from", "the library" if found.shipped else "people"),
    ])  # fmt: skip
    if used:
        rows = [(words.ago(use.at, at), use.letter_id, use.outcome, use.state, use.order_id) for use in used]
        words.table(("used", "letter", "outcome", "letter is", "order"), rows)


@rules.command()
@_FILE
@click.option("--version", type=click.IntRange(min=1), help="The version that you read, to change a rule; FILE may say it.")
@changes
def put(file: Any, *, version: int | None, actor: str, dry_run: bool, as_json: bool) -> None:
    """Write the rule in FILE (- for standard input). It acts at once, unless it says "enabled": false."""
    given, read = _given(file.read())

    async def work(conn: Any) -> RuleAnswer:
        from outbox.letters import rules as module

        written = await module.put(conn, module.read_rule(given), actor=actor, now=now(), version=version or read)
        return rule_answer(written, now())

    _tell(changed(work, dry_run=dry_run), as_json=as_json, dry_run=dry_run)


def _given(text: bytes) -> tuple[dict[str, Any], int | None]:
    """A rule as somebody wrote it, or as `show --json` printed it: without what is not theirs to say, and its version."""
    try:
        given = msgspec.json.decode(text, type=dict[str, Any])
        version = msgspec.convert(given.pop("version", None), int | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.BadParameter(f"this is no rule: {words.plain(str(error))}", param_hint="FILE") from error
    return {name: value for name, value in given.items() if name not in _OURS}, version or None


@rules.command("dry-run")
@_FILE
@click.option("--days", type=click.IntRange(1, 90), default=30, show_default=True, help="Letters of so many days.")
@AS_JSON
def try_(file: Any, *, days: int, as_json: bool) -> None:
    """What the rule in FILE would have done to past letters, and would do now. Writes nothing."""
    given, _ = _given(file.read())

    async def work(conn: Any) -> DryRunAnswer:
        from outbox.letters import rules as module

        return shown(DryRunAnswer, await module.dry_run(conn, module.read_rule(given), now=now(), days=days))

    told = done(work)
    if as_json:
        words.as_json(told)
        return
    states = ", ".join(f"{number:,} {state}" for state, number in sorted(told.by_state.items()))
    words.facts([
        ("looked at", f"{told.looked_at:,} letters of {told.days} days{'' if told.complete else '; there are more'}"),
        ("matching", f"{told.matching:,} ({states})" if states else "none"), ("open now", f"{told.open:,} would be taken"),
        ("asleep", f"{told.asleep:,} of them, taken when they wake" if told.asleep else None),
        ("others'", f"{told.taken:,} are taken by a rule before it" if told.taken else None),
        ("over the limit", f"{told.over_limit:,} would have waited" if told.over_limit else None),
        ("would not work", f"{told.unworkable:,}" if told.unworkable else None),
    ])  # fmt: skip
    for one in told.examples:
        words.heading(f"{one.letter_id} {one.type} ({one.state}): {one.effect}")
        if one.problem:
            click.secho(words.plain(f"would not work: {one.problem}"), fg="red")
        words.difference(one.diff)


def _switch(*, enabled: bool) -> Any:
    @_RULE
    @changes
    def verb(rule: str, *, actor: str, dry_run: bool, as_json: bool) -> None:
        async def work(conn: Any) -> RuleAnswer:
            from outbox.letters import rules as module

            switched = await module.switch(conn, rule, enabled=enabled, version=None, actor=actor, now=now())
            return rule_answer(switched, now())

        _tell(changed(work, dry_run=dry_run), as_json=as_json, dry_run=dry_run)

    return verb


rules.command("enable", help="Switch RULE on.")(_switch(enabled=True))
rules.command("disable", help="Switch RULE off. It acts no more from the moment this returns.")(_switch(enabled=False))


def _tell(rule: RuleAnswer, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        words.as_json(rule)
        return
    if dry_run:
        click.echo(TRIED)
    click.echo(words.plain(f"{rule.name} is {_mode(rule, now())}, version {rule.version}."))
