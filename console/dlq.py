"""The verbs that show failed messages: a list, their groups, one with all that is known of it, and what is alarmed."""

import sys
from datetime import datetime
from typing import Any

import click

from console import dlq_words as words
from console.dlq_base import AS, AS_JSON, CURSOR, LIMIT, Refused, done, filters, now
from console.dlq_changes import CHANGES
from console.dlq_edits import EDITS
from console.dlq_replays import replay, replays
from console.dlq_rules import rules
from console.dlq_show import tell_all
from gateway.ops_answers import (
    AlertAnswer,
    Alerts,
    CountAnswer,
    GroupAnswer,
    Groups,
    Letters,
    LetterSummary,
    alert_of,
    group_of,
    shown,
    summary_of,
)  # fmt: skip
from gateway.ops_detail import LetterDetail, detail_of
from outbox.letters.model import LetterFilter, LetterState


@click.group()
def dlq() -> None:
    """Failed messages: see them, send them again, put them right, or end them.

    Reads and changes the database that RUSHLINE_POSTGRES_DSN names. Ids may be shortened while they stay unambiguous.

    Whoever has the database's credentials is believed to be whom --as names: where a second person's approval must be
    proven, let people use /v1/ops with tokens of their own.
    """


@dlq.command("list", short_help="Failed messages, the latest first.")
@filters()
@LIMIT
@CURSOR
@AS_JSON
def list_(*, wanted: LetterFilter, limit: int, cursor: str | None, as_json: bool) -> None:
    """Failed messages, the latest failure first. Open ones, unless --state says otherwise."""

    async def read(conn: Any) -> Letters:
        from outbox.letters import search

        page = await search.find(conn, wanted, cursor=cursor, limit=limit)
        letters = [summary_of(letter) for letter in page.letters]
        return Letters(letters=letters, next_cursor=page.next, count=shown(CountAnswer, await search.count(conn, wanted)))

    page = done(read)
    if as_json:
        words.as_json(page)
    elif not page.letters:
        other = " Only open ones were looked for; `--state all` shows the others." if wanted.state is LetterState.OPEN else ""
        click.echo(f"No letter matches.{other}" if cursor is None else "No more letters.")
    else:
        _table(page.letters, now())
        click.echo(f"{_how_many(page.count)}. `rushline dlq show LETTER` says all about one.")
        if page.next_cursor:
            click.echo(f"Next page: --cursor {page.next_cursor}")


def _table(letters: list[LetterSummary], at: datetime) -> None:
    mixed = {letter.state for letter in letters} != {"open"}
    rows = [
        (
            words.short(each.letter_id), words.ago(each.last_failed_at, at), each.state if mixed else "", each.type or "(unreadable)",
            each.failure_type, each.attempts, each.order_id, each.owner, words.sleeps(each.snoozed_until, at),
            f"{each.error}: {each.message}"[:120],
        )
        for each in letters
    ]  # fmt: skip
    columns = ("letter", "failed", "state", "type", "failure", "tries", "order", "owner", "wakes", "error")
    words.table(columns, rows, spare="order")


def _how_many(count: CountAnswer) -> str:
    if count.number == 1:
        return "1 letter matches"
    return f"{'' if count.exact else 'at least '}{count.number:,} letters match"


@dlq.command(short_help="Failed messages by kind: where to look first.")
@click.option("--all", "everything", is_flag=True, help="Also groups without an open letter.")
@click.option("--snoozed", is_flag=True, help="Also groups that are snoozed.")
@LIMIT
@CURSOR
@AS_JSON
def groups(*, everything: bool, snoozed: bool, limit: int, cursor: str | None, as_json: bool) -> None:
    """Failed messages by kind, the largest kind first: where to look when there are hundreds."""

    async def read(conn: Any) -> Groups:
        from outbox.letters import search

        page = await search.groups(conn, open_only=not everything, snoozed=snoozed, cursor=cursor, limit=limit)
        return Groups(groups=[group_of(group) for group in page.groups], next_cursor=page.next)

    page = done(read)
    if as_json:
        words.as_json(page)
    elif not page.groups:
        click.echo(_no_groups(everything=everything, snoozed=snoozed))
    else:
        _groups_table(page.groups, now())
        click.echo(
            "`rushline dlq list --group FINGERPRINT` lists one; `rushline dlq replay --group FINGERPRINT` sends it again."
        )
        if page.next_cursor:
            click.echo(f"Next page: --cursor {page.next_cursor}")


def _groups_table(found: list[GroupAnswer], at: datetime) -> None:
    rows = [
        (
            each.fingerprint, each.open, each.total, words.ago(each.last_at, at), each.consumer, each.type or "(unreadable)",
            each.failure_type, each.owner, words.sleeps(each.snoozed_until, at), f"{each.error}: {each.example}"[:100],
        )
        for each in found
    ]  # fmt: skip
    words.table(("group", "open", "ever", "last", "consumer", "type", "failure", "owner", "wakes", "example"), rows)


def _no_groups(*, everything: bool, snoozed: bool) -> str:
    if everything and snoozed:
        return "There are no groups."
    which = "There is no group" if everything else "No group has an open letter"
    return f"{which}." if snoozed else f"{which}, or all of them are snoozed: `--snoozed` shows those, too."


@dlq.command(short_help="All that is known of one.")
@click.argument("letter")
@click.option("--raw", is_flag=True, help="Only the body, byte for byte, for a file or a pipe.")
@AS_JSON
@AS
def show(letter: str, *, raw: bool, as_json: bool, actor: str) -> None:
    """All that is known of LETTER: why it failed, its bytes, what was done to it, what can be done now. The look is recorded."""

    async def read(conn: Any) -> tuple[LetterDetail, bytes]:
        from outbox.letters import desk, search
        from outbox.letters.abbreviated import letter_named

        async with conn.transaction():
            found = await search.show(conn, await letter_named(conn, letter))
            known = found.letter
            await desk.viewed(conn, known.letter_id, known.order_id, part="body" if raw else "detail", actor=actor, now=now())
        return detail_of(found), known.body

    detail, body = done(read)
    if raw:
        _raw(body)
    elif as_json:
        words.as_json(detail)
    else:
        tell_all(detail, now())


def _raw(body: bytes) -> None:
    if sys.stdout.isatty() and not body.decode(errors="replace").isprintable():
        raise Refused("The body has bytes that could change this terminal.", "Save it: rushline dlq show LETTER --raw > FILE")
    sys.stdout.buffer.write(body)


@dlq.command(short_help="What somebody must look at now.")
@AS_JSON
def alerts(*, as_json: bool) -> None:
    """What somebody must look at now."""

    async def read(conn: Any) -> list[AlertAnswer]:
        from outbox.alerts import open_alerts

        return [alert_of(alert) for alert in await open_alerts(conn)]

    found = done(read)
    if as_json:
        words.as_json(Alerts(alerts=found))
    elif not found:
        click.echo("Nothing is alarmed.")
    else:
        at = now()
        rows = [(each.kind, words.ago(each.last_at, at), each.times, each.subject, each.runbook, each.detail) for each in found]
        words.table(("alert", "last", "times", "about", "read", "detail"), rows, fold=True)


for _command in (*CHANGES, *EDITS, replay, replays, rules):
    dlq.add_command(_command)
