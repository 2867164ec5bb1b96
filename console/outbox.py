"""The verbs that show the outbox."""

import asyncio

import click
import msgspec

from adapters.postgres import connect
from adapters.settings import load_settings
from console.output import emit
from outbox.status import LaneStatus, lane_statuses


@click.group()
def outbox() -> None:
    """What waits to be published."""


@outbox.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def status(*, as_json: bool) -> None:
    """Depth, oldest age in seconds and rows set aside, per lane."""
    emit([msgspec.to_builtins(lane) for lane in asyncio.run(_read())], as_json=as_json, empty="There are no lanes.")


async def _read() -> list[LaneStatus]:
    async with connect(load_settings().postgres_dsn, service="console") as conn:
        return await lane_statuses(conn)
