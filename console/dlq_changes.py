"""The verbs that change letters and groups without sending anything: discard, snooze, assign, note."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

import click
import msgspec

from console import dlq_words as words
from console.dlq_base import REASON, changed, changes, done, filters, narrows, now, refused
from gateway.ops_answers import GroupAnswer, LetterSummary, group_of, summary_of
from orders.errors import Refuse
from outbox.letters.model import Letter, LetterFilter

TRIED: Final = "Nothing was changed (--dry-run)."
GROUP: Final = click.option("--group", metavar="FINGERPRINT", help="A whole group, see `rushline dlq groups`.")
LETTERS: Final = click.argument("letters", nargs=-1, metavar="[LETTER]...")
Act = Callable[[Any, str], Awaitable[Letter]]


class RefusedLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One letter that stayed as it was, and why."""

    letter: str
    type: str
    detail: str
    remedy: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of letters that were named one by one."""

    letters: list[LetterSummary]
    refused: list[RefusedLetter]


def each(letters: Sequence[str], act: Act, *, dry_run: bool) -> Outcome:
    """Do it to one letter after the other, each a change of its own: a refusal of one does not undo another."""

    async def work(conn: Any) -> Outcome:
        from outbox.letters.abbreviated import letter_named
        from outbox.letters.rehearsal import changing

        found: list[LetterSummary] = []
        kept: list[RefusedLetter] = []
        for named in letters:
            try:
                letter_id = await letter_named(conn, named)
                if dry_run:
                    async with changing(conn, dry_run=True):
                        found.append(summary_of(await act(conn, letter_id)))
                else:
                    found.append(summary_of(await act(conn, letter_id)))
            except Refuse as error:
                kept.append(RefusedLetter(letter=named, type=error.slug, detail=str(error), remedy=refused(error).remedy))
        return Outcome(letters=found, refused=kept)

    return done(work)


def tell(outcome: Outcome, what: str, *, as_json: bool, dry_run: bool) -> None:
    """What became of each; `what` may name a letter's fields. Exits with 1 where one was refused."""
    if as_json:
        words.as_json(outcome)
    else:
        if dry_run:
            click.echo(TRIED)
        for letter in outcome.letters:
            click.echo(words.plain(f"{letter.letter_id} {what}"))
        _tell_refused(outcome.refused)
    if outcome.refused:
        raise click.exceptions.Exit(1)


def tell_ends(outcome: Outcome, *, as_json: bool) -> None:
    """What became of letters that were sent again and waited for. Exits with 1 unless all of them are resolved."""
    if as_json:
        words.as_json(outcome)
    else:
        for letter in outcome.letters:
            open_again = letter.state == "open"
            told = (
                f"failed again: {letter.error}: {letter.message}" if open_again else f"is {letter.state}: {letter.resolution}"
            )
            click.secho(words.plain(f"{letter.letter_id} {told}"), fg="red" if open_again else None)
        _tell_refused(outcome.refused)
    if outcome.refused or any(letter.state != "resolved" for letter in outcome.letters):
        raise click.exceptions.Exit(1)


def _tell_refused(kept: list[RefusedLetter]) -> None:
    for one in kept:
        named = one.detail if one.letter in one.detail else f"{one.letter}: {one.detail}"
        click.secho(words.plain(named), fg="red", err=True)
        if one.remedy:
            click.echo(one.remedy, err=True)


@click.command(short_help="End letters, with a reason.")
@LETTERS
@filters(open_only=True)
@click.option(
    "--cutoff",
    type=words.Moment(ahead=False),
    metavar="TIME",
    help="With a filter: not what failed later than TIME.  [default: now]",
)
@REASON
@click.option("--yes", is_flag=True, help="With a filter: do not ask.")
@changes
def discard(
    letters: tuple[str, ...],
    *,
    wanted: LetterFilter,
    cutoff: datetime | None,
    reason: str,
    yes: bool,
    actor: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Do nothing more about letters: those named, or all open ones that a filter finds. They are kept, with the reason."""
    if bool(letters) == narrows(wanted):
        raise click.UsageError("Name letters, or give a filter like --group FINGERPRINT: one of the two.")
    if letters:

        async def act(conn: Any, letter_id: str) -> Letter:
            from outbox.letters import actions

            return await actions.discard(conn, letter_id, reason=reason, actor=actor, version=None, now=now())

        tell(each(letters, act, dry_run=dry_run), "is discarded.", as_json=as_json, dry_run=dry_run)
        return
    _discard_many(wanted, cutoff or now(), reason, actor, yes=yes or dry_run, dry_run=dry_run, as_json=as_json)


def _discard_many(
    wanted: LetterFilter, cutoff: datetime, reason: str, actor: str, *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    async def work(conn: Any, *, rehearsal: bool) -> int:
        from outbox.letters import actions

        return await actions.discard_many(conn, wanted, cutoff=cutoff, reason=reason, actor=actor, now=now(), dry_run=rehearsal)

    if not yes:
        number = done(lambda conn: work(conn, rehearsal=True))
        click.confirm(f"Discard {number:,} letters for good?", abort=True, err=True)
    number = done(lambda conn: work(conn, rehearsal=dry_run))
    if as_json:
        words.as_json({"discarded": number, "cutoff": cutoff, "dry_run": dry_run})
    else:
        click.echo(f"{number:,} letters {'would be' if dry_run else 'are'} discarded.")


@click.command(short_help="Hide letters or a group until a time.")
@LETTERS
@GROUP
@click.option("--until", type=words.Moment(ahead=True), metavar="TIME", help="Until TIME (2h: for 2 hours).")
@click.option("--wake", is_flag=True, help="End a snooze.")
@changes
def snooze(
    letters: tuple[str, ...], *, group: str | None, until: datetime | None, wake: bool, actor: str, dry_run: bool, as_json: bool
) -> None:
    """Let nobody be bothered with letters or a group until a time. Nothing else changes."""
    _one_of(letters, group)
    if wake == (until is not None):
        raise click.UsageError("Give either --until TIME or --wake.")
    what = f"sleeps until {until:%Y-%m-%d %H:%M} UTC." if until else "is awake."
    if group:

        async def change(conn: Any, fingerprint: str) -> Any:
            from outbox.letters import actions

            return await actions.snooze_group(conn, fingerprint, until=until, actor=actor, now=now())

        _tell_group(_group(group, change, dry_run=dry_run), what, as_json=as_json, dry_run=dry_run)
        return

    async def act(conn: Any, letter_id: str) -> Letter:
        from outbox.letters import actions

        return await actions.snooze(conn, letter_id, until=until, actor=actor, version=None, now=now())

    tell(each(letters, act, dry_run=dry_run), what, as_json=as_json, dry_run=dry_run)


@click.command(short_help="Say who looks after it.")
@LETTERS
@GROUP
@click.option("--owner", metavar="NAME", help="Who looks after it.")
@click.option("--nobody", is_flag=True, help="Nobody does any longer.")
@changes
def assign(
    letters: tuple[str, ...], *, group: str | None, owner: str | None, nobody: bool, actor: str, dry_run: bool, as_json: bool
) -> None:
    """Say who looks after letters or a group."""
    _one_of(letters, group)
    if nobody == (owner is not None):
        raise click.UsageError("Give either --owner NAME or --nobody.")
    if owner is not None and not (owner.strip() and owner.isprintable()):
        raise click.BadParameter("give printable characters", param_hint="--owner")
    what = f"is looked after by {owner}." if owner else "is looked after by nobody."
    if group:

        async def change(conn: Any, fingerprint: str) -> Any:
            from outbox.letters import actions

            return await actions.assign_group(conn, fingerprint, owner=owner, actor=actor, now=now())

        _tell_group(_group(group, change, dry_run=dry_run), what, as_json=as_json, dry_run=dry_run)
        return

    async def act(conn: Any, letter_id: str) -> Letter:
        from outbox.letters import actions

        return await actions.assign(conn, letter_id, owner=owner, actor=actor, version=None, now=now())

    tell(each(letters, act, dry_run=dry_run), what, as_json=as_json, dry_run=dry_run)


@click.command(short_help="Leave word for the next one.")
@click.argument("letter")
@click.argument("text")
@changes
def note(letter: str, text: str, *, actor: str, dry_run: bool, as_json: bool) -> None:
    """Leave word for whoever looks at LETTER next."""

    async def act(conn: Any, letter_id: str) -> Letter:
        from outbox.letters import actions

        return await actions.note(conn, letter_id, text=text, actor=actor, now=now())

    tell(each([letter], act, dry_run=dry_run), "has a new note.", as_json=as_json, dry_run=dry_run)


def _one_of(letters: tuple[str, ...], group: str | None) -> None:
    if bool(letters) == bool(group):
        raise click.UsageError("Name letters, or one group with --group FINGERPRINT: one of the two.")


def _group(named: str, change: Callable[[Any, str], Awaitable[Any]], *, dry_run: bool) -> GroupAnswer:
    async def work(conn: Any) -> GroupAnswer:
        from outbox.letters.abbreviated import group_named

        return group_of(await change(conn, await group_named(conn, named)))

    return changed(work, dry_run=dry_run)


def _tell_group(group: GroupAnswer, what: str, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        words.as_json(group)
        return
    if dry_run:
        click.echo(TRIED)
    click.echo(words.plain(f"Group {group.fingerprint} ({group.open:,} open) {what}"))


CHANGES: Final = (discard, snooze, assign, note)
