"""The verbs that edit a message before it is sent again: propose, approve, refuse, and what waits for a second person."""

import json
from pathlib import Path
from typing import Any, Final

import click

from console import dlq_words as words
from console.dlq_base import AS_JSON, LIMIT, REASON, changed, changes, done, now
from console.dlq_changes import TRIED
from gateway.ops_answers import EditAnswer, Edits, edit_answer

_EDIT: Final = click.argument("edit_id", metavar="EDIT")
_MOST_FILE: Final = 1_000_000


@click.command(short_help="Put a message right, and send it.")
@click.argument("letter")
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The whole body, from a file."
)
@click.option(
    "--patch", metavar="JSON", help='What differs, as a JSON Merge Patch: \'{"restaurant_id": "rst_…"}\'; null removes.'
)
@REASON
@changes
def edit(letter: str, *, file: Path | None, patch: str | None, reason: str, actor: str, dry_run: bool, as_json: bool) -> None:
    """Put a message right and send it again. Opens $EDITOR, unless --file or --patch says how.

    The original is kept. What moves money is not sent before another person approves it.
    """
    if file and patch:
        raise click.UsageError("Give --file or --patch, not both.")
    letter_id, before = done(lambda conn: _latest(conn, letter))
    body = _edited(before, file, patch)

    async def work(conn: Any) -> EditAnswer:
        from outbox.letters import editing

        return edit_answer(await editing.propose(conn, letter_id, body, reason=reason, actor=actor, now=now(), dry_run=dry_run))

    _tell(done(work), as_json=as_json, dry_run=dry_run)


async def _latest(conn: Any, letter: str) -> tuple[str, bytes]:
    from outbox.letters import editing
    from outbox.letters.abbreviated import letter_named

    letter_id = await letter_named(conn, letter)
    return letter_id, await editing.latest_body(conn, letter_id)


def _edited(before: bytes, file: Path | None, patch: str | None) -> bytes:
    if file:
        if file.stat().st_size > _MOST_FILE:
            raise click.BadParameter(f"has more than {_MOST_FILE:,} bytes", param_hint="--file")
        return file.read_bytes()
    if patch:
        return done(lambda _: _patched(before, patch))
    text = click.edit(_readable(before), extension=".json", require_save=True)
    if text is None:
        raise click.UsageError("The editor was left without saving: nothing was changed.")
    return text.strip().encode()


async def _patched(before: bytes, patch: str) -> bytes:
    from outbox.letters import patching

    try:
        wanted = json.loads(patch)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"this is no JSON: {error}", param_hint="--patch") from error
    patching.check(wanted, "patch")
    return patching.patched(before, wanted)


def _readable(body: bytes) -> str:
    """The body as somebody can edit it: JSON over several lines, anything else with its strange bytes replaced."""
    import msgspec

    try:
        return msgspec.json.format(body, indent=2).decode() + "\n"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace")


@click.command(short_help="The second person's word: send an edit.")
@_EDIT
@changes
def approve(edit_id: str, *, actor: str, dry_run: bool, as_json: bool) -> None:
    """The second person's word: EDIT is sent. --as must be another name than that of who proposed it.

    The command line believes what --as says; over /v1/ops it is the token that says who somebody is.
    """

    async def work(conn: Any) -> EditAnswer:
        from outbox.letters import editing
        from outbox.letters.abbreviated import edit_named

        whole = await edit_named(conn, edit_id)
        return edit_answer(await editing.approve(conn, whole, actor=actor, now=now(), dry_run=dry_run))

    _tell(done(work), as_json=as_json, dry_run=dry_run)


@click.command(short_help="Do not send an edit.")
@_EDIT
@REASON
@changes
def refuse(edit_id: str, *, reason: str, actor: str, dry_run: bool, as_json: bool) -> None:
    """EDIT is not sent; its letter stays open."""

    async def work(conn: Any) -> EditAnswer:
        from outbox.letters import editing
        from outbox.letters.abbreviated import edit_named

        whole = await edit_named(conn, edit_id)
        return edit_answer(await editing.refuse(conn, whole, reason=reason, actor=actor, now=now()))

    _tell(changed(work, dry_run=dry_run), as_json=as_json, dry_run=dry_run)


@click.command(short_help="Edits that wait for a second person.")
@click.option("--state", type=click.Choice(["waiting", "sent", "refused", "all"]), default="waiting", show_default=True)
@LIMIT
@AS_JSON
def edits(*, state: str, limit: int, as_json: bool) -> None:
    """Edits: those that wait for a second person, unless --state says otherwise."""

    async def work(conn: Any) -> list[EditAnswer]:
        from outbox.letters import editing

        wanted = None if state == "all" else editing.EditState(state)
        return [edit_answer(found) for found in await editing.list_edits(conn, state=wanted, limit=limit)]

    found = done(work)
    if as_json:
        words.as_json(Edits(edits=found, next_cursor=None))
        return
    if not found:
        click.echo("No edit waits for a second person." if state == "waiting" else "There are no such edits.")
    for one in found:
        words.heading(f"{one.edit_id} of {one.letter_id}: {one.state}")
        click.echo(words.plain(f"{one.proposed_by}, {words.since(one.proposed_at, now())}: {one.reason}"))
        words.difference(one.diff)
        if one.state == "waiting":
            click.echo(
                f"`rushline dlq approve {one.edit_id} --as NAME`, or `rushline dlq refuse {one.edit_id} --reason WORDS`."
            )


def _tell(found: EditAnswer, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        words.as_json(found)
        return
    if dry_run:
        click.echo(TRIED)
    words.difference(found.diff)
    would = "would be" if dry_run else "is"
    match found.state:
        case "waiting":
            click.echo(f"{found.edit_id} {'would wait' if dry_run else 'waits'} for a second person, since it moves money.")
            if not dry_run:
                click.echo(f"Somebody else runs: rushline dlq approve {found.edit_id} --as NAME")
        case "sent":
            click.echo(f"{found.edit_id}: the edited message {would} sent; {found.letter_id} keeps its original.")
        case other:
            click.echo(f"{found.edit_id} {would} {other}; {found.letter_id} stays open.")


EDITS: Final = (edit, approve, refuse, edits)
