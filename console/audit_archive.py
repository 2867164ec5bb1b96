"""The verb `rushline audit archive`: what is old enough goes into the archive now, instead of within the hour."""

import asyncio

import click
import msgspec

from adapters.postgres import connect
from adapters.settings import Settings, load_settings
from audit.archive.life import DAMAGED, Done
from console.output import emit
from orders.errors import Invalid
from outbox.transition import utc_now
from streams.archiving import open_archiver

_NOTHING = "Nothing is due: no week of the ledger is old enough and signed, or another archiver is at it."


@click.command(short_help="Move old events into the archive, and drop what is older than is kept.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Archive weeks that ended so long ago.  [default: the setting]",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def archive(*, older_than: float | None, dry_run: bool, as_json: bool) -> None:
    """Write, verify, drop from the ledger; and drop archives whose time is over, with a signed statement.

    It can be stopped at any time: the next run goes on. The process that signs the log does the same each hour.
    """
    settings = load_settings()
    if not settings.archive_url:
        raise Invalid("RUSHLINE_ARCHIVE_URL", "it is empty: give file:///a/folder or s3://bucket/prefix")
    done = asyncio.run(_work(settings, older_than, dry_run=dry_run))
    emit([msgspec.to_builtins(each) for each in done], as_json=as_json, empty=_NOTHING)
    if any(each.what == DAMAGED for each in done):
        raise SystemExit(1)


async def _work(settings: Settings, older_than: float | None, *, dry_run: bool) -> list[Done]:
    done: list[Done] = []
    async with open_archiver(settings, hot_days=older_than) as archiver, connect(archiver.dsn, service="console") as db:
        if dry_run:
            return await archiver.plan(db, utc_now())
        while (did := await archiver.step(db, utc_now())) is not None:
            done.append(did)
            if did.what == DAMAGED:
                break
    return done
