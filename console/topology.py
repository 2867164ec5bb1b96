"""The only place for `rushline topology`: give the brokers their declared shape, or show in what they differ."""

import asyncio
import json
import sys
from dataclasses import asdict

import click
from rich.console import Console

from adapters.settings import load_settings


@click.group()
def topology() -> None:
    """Give RabbitMQ and Kafka the shape that broker-config/ declares, or show what differs."""


@topology.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def apply(*, dry_run: bool, as_json: bool) -> None:
    """Make both brokers as declared. Refuses where that would mean deleting a queue or a topic."""
    from adapters import topology as brokers

    changed = asyncio.run(brokers.apply(load_settings(), dry_run=dry_run))
    if as_json:
        print(json.dumps({"dry_run": dry_run, "changes": [asdict(each) for each in changed]}, indent=2))
        return
    out = Console(highlight=False)
    for each in changed:
        out.print(str(each), markup=False)
    did = "would be made" if dry_run else "made"
    out.print(f"{len(changed)} changes {did}." if changed else "Both brokers are as declared.")


@topology.command()
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def diff(*, as_json: bool) -> None:
    """Show in what the brokers differ from broker-config/. Exit code 1 where they do."""
    from adapters import topology as brokers

    found = asyncio.run(brokers.diff(load_settings()))
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=2))
    else:
        out = Console(highlight=False)
        for each in found:
            out.print(str(each), markup=False)
        if not found:
            out.print("Both brokers are as declared.")
    sys.exit(1 if found else 0)


@topology.command()
@click.argument("version", default="4.3")
def render(*, version: str) -> None:
    """Print the definitions for RabbitMQ of a VERSION, as it can load them at boot. They hold no users."""
    from adapters import topology_declared as declared

    print(json.dumps(declared.render(declared.declared_rabbitmq(), version), indent=2))
