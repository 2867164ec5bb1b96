"""The verb that shows the log's verifier keys, and makes a new one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from console import dlq_words as words
from console.dlq_base import AS, done


@click.command()
@click.option("--rotate", is_flag=True, help="Make a new key. The one before signs beside it for --overlap, then no more.")
@click.option(
    "--overlap", default=30, show_default=True, metavar="DAYS", type=click.IntRange(1, 366), help="How long both keys sign."
)
@click.option("--dry-run", is_flag=True, help="With --rotate: say what would be done; change nothing.")
@AS
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def key(*, rotate: bool, overlap: int, dry_run: bool, actor: str, as_json: bool) -> None:
    """The log's verifier keys in signed-note form, the newest first: what an auditor needs, and needs from you only once.

    Give it to whoever verifies, over a way that the log's operator cannot change: in a contract, on paper. Old keys are listed for
    ever, because old checkpoints are verified with them.

    Private keys are in the file that RUSHLINE_AUDIT_KEYS_FILE names, and are never shown. Lost, they cannot be made again.
    """
    from adapters.settings import load_settings
    from audit import keys

    settings = load_settings()
    now = datetime.now(UTC)
    if rotate and not dry_run:
        before = keys.public_keys(settings)[0].vkey
        made = keys.rotate(settings, now, timedelta(days=overlap)).public
        done(lambda conn: _recorded(conn, actor, before, made[0].vkey, now))
    elif rotate:
        (current, *_) = keys.load(settings).public
        click.echo(
            f"A new key would be made. {_id(current.vkey)} would sign beside it until {now + timedelta(days=overlap):%Y-%m-%d}."
        )
        return
    found = keys.public_keys(settings)
    if as_json:
        words.as_json(found)
        return
    for each in found:
        click.echo(each.vkey)
    click.echo(
        "\n".join(f"{_id(each.vkey)}: signs since {each.since:%Y-%m-%d %H:%M} UTC{_until(each.until, now)}" for each in found),
        err=True,
    )


def _id(vkey: str) -> str:
    return vkey.split("+")[1]


def _until(until: datetime | None, now: datetime) -> str:
    if until is None:
        return ""
    return f", {'until' if until > now else 'signed until'} {until:%Y-%m-%d %H:%M} UTC"


async def _recorded(conn: Any, actor: str, before: str, after: str, now: datetime) -> None:
    from console.audit_base import recorded
    from orders.names import Act

    await recorded(conn, Act.LOG_KEY_ROTATED, actor, {"from": _id(before), "to": _id(after)}, now)
