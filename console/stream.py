"""The verbs that move a stream's group: replay, seek, skip."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar

import click
import msgspec

from adapters.settings import load_settings
from console.output import emit
from orders.errors import RushlineError
from streams import operate
from streams.__main__ import GROUPS, group

T = TypeVar("T")
_GROUP = click.argument("name", metavar="GROUP", type=click.Choice(GROUPS))
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable.")


class _Refused(click.ClickException):
    exit_code = 2


@click.group()
def stream() -> None:
    """Move a group of consumers that is stopped."""


@stream.command()
@_GROUP
@click.option("--from-beginning", is_flag=True, help="From the oldest fact that Kafka has.")
@click.option("--since", metavar="TIME", help="From this time on (ISO 8601, UTC where it names no zone).")
@click.option("--rebuild", is_flag=True, help="Empty the group's read model first, so that every fact takes effect again.")
@_DRY_RUN
@_JSON
def replay(name: str, since: str | None, *, from_beginning: bool, rebuild: bool, dry_run: bool, as_json: bool) -> None:
    """Let GROUP read facts again. Those that took effect before will not do so twice."""
    if from_beginning == (since is not None):
        raise click.UsageError("Give either --from-beginning or --since TIME.")
    if rebuild and not from_beginning:
        raise click.UsageError("A read model is built from the beginning: give --from-beginning with --rebuild.")
    settings = load_settings()
    asked = operate.replay(settings, group(name, settings), since=_time(since), rebuild=rebuild, dry_run=dry_run)
    _show(_done(asked), dry_run=dry_run, as_json=as_json)


@stream.command()
@_GROUP
@click.argument("topic")
@click.argument("partition", type=click.IntRange(min=0))
@click.argument("offset", type=click.IntRange(min=0))
@_DRY_RUN
@_JSON
def seek(name: str, topic: str, partition: int, offset: int, *, dry_run: bool, as_json: bool) -> None:
    """Let GROUP go on from OFFSET of PARTITION of TOPIC."""
    settings = load_settings()
    asked = operate.seek(settings, group(name, settings), topic, partition, offset, dry_run=dry_run)
    _show(_done(asked), dry_run=dry_run, as_json=as_json)


@stream.command()
@_GROUP
@click.argument("order_id")
@_DRY_RUN
@_JSON
def skip(name: str, order_id: str, *, dry_run: bool, as_json: bool) -> None:
    """Let ORDER_ID go on in GROUP without the one fact that it waits for."""
    settings = load_settings()
    skipped = _done(operate.skip(settings, group(name, settings), order_id, dry_run=dry_run))
    _show([skipped], dry_run=dry_run, as_json=as_json)


def _done(asked: Awaitable[T]) -> T:
    async def wait() -> T:
        return await asked

    try:
        return asyncio.run(wait())
    except RushlineError as error:
        remedy = getattr(error, "remedy", "")
        raise _Refused(f"{error}. {remedy}".rstrip(" .") + ".") from error


def _show(rows: list[operate.Moved] | list[operate.Skipped], *, dry_run: bool, as_json: bool) -> None:
    if dry_run and not as_json:
        click.echo("Nothing was changed (--dry-run).")
    emit([msgspec.to_builtins(row) for row in rows], as_json=as_json, empty="There is nothing to do.")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time; give one like 2025-03-14T18:30:00Z", param_hint="--since") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
