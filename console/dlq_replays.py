"""The verbs that send letters again: one, several, or all that a filter finds; and those that look after such a replay."""

from datetime import datetime
from typing import Any, Final

import click
import msgspec

from console import dlq_words as words
from console.dlq_base import AS_JSON, LIMIT, MAYBE_REASON, changed, changes, done, filters, narrows, now
from console.dlq_changes import LETTERS, TRIED, each, tell, tell_ends
from console.dlq_watch import WATCH, ending, follow, follow_letters
from gateway.ops_answers import ItemAnswer, ReplayAnswer, Replays, shown
from outbox.letters.model import Letter, LetterFilter

_REPLAY: Final = click.argument("replay_id", metavar="REPLAY")


class Stages(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """How many are sent first, then next …, as in 1,5; `0` sends all at once."""

    name = "stages"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if value == "0":
            return ()
        if not all(part.strip().isascii() and part.strip().isdigit() and 0 < int(part) < 10**6 for part in parts):
            self.fail(f"{words.plain(value)!r} are no stages; give numbers like 1,5, or 0 to send all at once", param, ctx)
        return tuple(int(part) for part in parts)


@click.command(short_help="Send again: one, a group, a filter.")
@LETTERS
@filters(open_only=True)
@click.option("--all", "everything", is_flag=True, help="Every open letter that is not snoozed.")
@click.option(
    "--cutoff", type=words.Moment(ahead=False), metavar="TIME", help="Not what failed later than TIME.  [default: now]"
)
@click.option(
    "--canary",
    type=Stages(),
    default="1,5",
    show_default=True,
    metavar="N,N…",
    help="How many must end well before more follow; 0: all at once.",
)
@click.option("--per-second", type=click.IntRange(1, 100_000), metavar="N", help="Not faster than this.")
@MAYBE_REASON
@WATCH
@changes
def replay(
    letters: tuple[str, ...], *, wanted: LetterFilter, everything: bool, cutoff: datetime | None, canary: tuple[int, ...],
    per_second: int | None, reason: str | None, watch: bool, actor: str, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Send letters again, as they were and under their own ids: what took effect before does not do so twice.

    Name one or more; or give a filter (or --all) to send many: one first, then five, then the rest, stopping at the first
    that fails again. The process `rushline worker letters` does the sending, so that closing this terminal stops nothing.
    """
    if sum((bool(letters), narrows(wanted), everything)) != 1:
        raise click.UsageError("Name letters, or give a filter like --group FINGERPRINT, or --all: one of the three.")
    if letters:
        _refuse_what_is_for_many()
        _named(letters, reason=reason, watch=watch, actor=actor, dry_run=dry_run, as_json=as_json)
        return

    async def work(conn: Any) -> ReplayAnswer:
        from outbox.letters import replays as module

        made = await module.create(
            conn, wanted, cutoff=cutoff or now(), reason=reason or "sent again by hand", stages=canary, per_second=per_second,
            actor=actor, now=now(), dry_run=dry_run,
        )  # fmt: skip
        return shown(ReplayAnswer, made)

    made = done(work)
    if not as_json:
        _announce(made, dry_run=dry_run)
    if watch and not dry_run:
        follow(made.replay_id, quiet=as_json)
    elif as_json:
        words.as_json(made)


def _refuse_what_is_for_many() -> None:
    """An option that would do nothing is not taken in silence."""
    context = click.get_current_context()
    for name in ("cutoff", "canary", "per_second"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is for many: give a filter instead of letters.")


def _named(letters: tuple[str, ...], *, reason: str | None, watch: bool, actor: str, dry_run: bool, as_json: bool) -> None:
    async def act(conn: Any, letter_id: str) -> Letter:
        from outbox.letters import actions, sending

        sent = await sending.replay_one(conn, letter_id, actor=actor, version=None, now=now(), dry_run=dry_run)
        if reason and not dry_run:
            await actions.note(conn, letter_id, text=reason, actor=actor, now=now())
        return sent

    outcome = each(letters, act, dry_run=False)  # it rehearses by itself
    if dry_run or not watch:
        tell(outcome, "would be sent again." if dry_run else "is sent again.", as_json=as_json, dry_run=dry_run)
        return
    ended = follow_letters(outcome.letters)
    tell_ends(msgspec.structs.replace(outcome, letters=ended), as_json=as_json)


def _announce(made: ReplayAnswer, *, dry_run: bool) -> None:
    sizes = ", then ".join(f"{stage.size:,}" for stage in made.stages)
    pace = f", at most {made.per_second:,} a second" if made.per_second else ""
    if dry_run:
        click.echo(f"{TRIED} {made.total:,} letters would be sent again: {sizes}{pace}.")
        return
    click.echo(f"{made.replay_id}: {made.total:,} letters are sent again: {sizes}{pace}. It stops at the first that fails.")
    click.echo(f"`rushline dlq replays watch {made.replay_id}` shows how far it is; `… pause`, `… cancel` end it.")


@click.group(short_help="How far replays are; pause, resume.")
def replays() -> None:
    """Replays of many letters: how far they are; pause, resume or cancel them."""


@replays.command("list")
@LIMIT
@AS_JSON
def list_(*, limit: int, as_json: bool) -> None:
    """Replays, newest first."""

    async def work(conn: Any) -> list[ReplayAnswer]:
        from outbox.letters import replays as module

        return [shown(ReplayAnswer, replay) for replay in await module.list_replays(conn, limit=limit)]

    found = done(work)
    if as_json:
        words.as_json(Replays(replays=found, next_cursor=None))
    elif not found:
        click.echo("There are no replays. `rushline dlq replay --help` says how to start one.")
    else:
        at = now()
        rows = [
            (each.replay_id, words.ago(each.created_at, at), each.state, f"{each.done:,}/{each.total:,}", each.failed,
             each.skipped, each.created_by, each.reason)
            for each in found
        ]  # fmt: skip
        words.table(("replay", "begun", "state", "done", "failed", "skipped", "by", "reason"), rows)


@replays.command()
@_REPLAY
@AS_JSON
def show(replay_id: str, *, as_json: bool) -> None:
    """A replay, how far it is, and what did not go well."""

    async def work(conn: Any) -> tuple[ReplayAnswer, list[ItemAnswer]]:
        from outbox.letters import replays as module
        from outbox.letters.abbreviated import replay_named

        whole = await replay_named(conn, replay_id)
        bad = [item for state in ("failed", "skipped") for item in await module.items(conn, whole, state=state, limit=20)]
        return shown(ReplayAnswer, await module.progress(conn, whole)), [shown(ItemAnswer, item) for item in bad]

    replay, bad = done(work)
    if as_json:
        words.as_json(replay)
        return
    click.echo(words.plain(ending(replay), lines=True))
    chosen = {name: value for name, value in msgspec.to_builtins(replay.filter).items() if value is not None}
    stages = "; ".join(f"{each.done + each.failed} of {each.size}" for each in replay.stages)
    words.facts([
        ("filter", chosen or "every open letter"), ("cut-off", replay.cutoff), ("reason", replay.reason), ("stages", stages),
        ("per second", replay.per_second or "no limit"), ("measured", replay.rate and f"{replay.rate:,.1f} a second"),
        ("begun", f"{replay.created_at:%Y-%m-%d %H:%M:%S} UTC by {replay.created_by}"), ("why", replay.why),
    ])  # fmt: skip
    if bad:
        words.table(("letter", "state", "why"), [(each.letter_id, each.state, each.why) for each in bad], fold=True)


@replays.command()
@_REPLAY
@AS_JSON
def watch(replay_id: str, *, as_json: bool) -> None:
    """Wait for a replay's end; the exit code is 0 only if every letter is done."""

    async def work(conn: Any) -> str:
        from outbox.letters.abbreviated import replay_named

        return await replay_named(conn, replay_id)

    follow(done(work), quiet=as_json)


def _say(what: str) -> Any:
    @_REPLAY
    @changes
    def verb(replay_id: str, *, actor: str, dry_run: bool, as_json: bool) -> None:
        async def work(conn: Any) -> ReplayAnswer:
            from outbox.letters import replays as module
            from outbox.letters.abbreviated import replay_named

            act = getattr(module, what)
            return shown(ReplayAnswer, await act(conn, await replay_named(conn, replay_id), actor=actor, now=now()))

        replay = changed(work, dry_run=dry_run)
        if as_json:
            words.as_json(replay)
        else:
            click.echo(f"{TRIED if dry_run else ''} {replay.replay_id} is {replay.state}.".strip())

    return verb


replays.command("pause", help="Send no more until it is resumed. What is under way comes to its own end.")(_say("pause"))
replays.command("resume", help="Go on; failures so far are accepted.")(_say("resume"))
replays.command("cancel", help="Send no more, ever. Letters that were not sent stay open.")(_say("cancel"))
