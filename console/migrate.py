"""The verb that brings the database's schema up to date."""

import asyncio

import click

from adapters.settings import load_settings
from console.output import emit
from outbox.migrations import migrate_all


@click.command()
@click.option("--dry-run", is_flag=True, help="Only name what would be applied.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def migrate(*, dry_run: bool, as_json: bool) -> None:
    """Bring the database's schema up to date. Does nothing where it is."""
    names = asyncio.run(migrate_all(load_settings(), dry_run=dry_run))
    emit([{"migration": name, "applied": not dry_run} for name in names], as_json=as_json, empty="The schema is up to date.")
