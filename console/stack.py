"""The only place for `rushline up`, `down` and `status`: the three servers of the local stack, ready for use."""

import asyncio
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Table

from adapters.settings import PREFIX, Settings, load_settings
from stack import anywhere
from stack.anywhere import How
from stack.place import SERVERS
from stack.ports import Ports

_HOW: Final = click.Choice([each.value for each in How])
_SERVER: Final = click.Choice(SERVERS)


@click.command()
@click.argument("servers", nargs=-1, type=_SERVER)
@click.option("--how", type=_HOW, default=How.AUTO.value, help="Containers where an engine answers, or native processes.")
@click.option("--free-ports", is_flag=True, help="Listen on free ports, beside another stack.")
@click.option("--dry-run", is_flag=True, help="Say what would be started, and start nothing.")
def up(*, servers: tuple[str, ...], how: str, free_ports: bool, dry_run: bool) -> None:
    """Start PostgreSQL, RabbitMQ and Kafka; migrate; apply the topology. Does nothing where that is done."""
    out, home, began = Console(highlight=False), _home(), time.monotonic()
    only = servers or SERVERS
    if dry_run:
        _say_what_is_not_running(out, home, only)
        return
    ports = Ports.free() if free_ports else None
    with out.status("Starting PostgreSQL, RabbitMQ and Kafka (the first time, this also fetches them) …"):
        started = anywhere.up(home, ports, how=How(how), only=only, say=out.print)
    if set(only) == set(SERVERS):
        with out.status("Migrating the database and applying the topology …"):
            asyncio.run(prepare(_settings_of(home, started.settings)))
    _show(out, home)
    out.print(f"Ready after {time.monotonic() - began:.1f} s. Addresses and credentials: rushline status --json")


@click.command()
@click.argument("servers", nargs=-1, type=_SERVER)
@click.option("--purge", is_flag=True, help="Also remove the data, the users and their passwords.")
@click.option("--dry-run", is_flag=True, help="Say what would be stopped, and stop nothing.")
def down(*, servers: tuple[str, ...], purge: bool, dry_run: bool) -> None:
    """Stop the servers cleanly. Their data stays, unless it is purged."""
    out, home = Console(highlight=False), _home()
    if purge and servers:
        raise click.UsageError("--purge is for the whole stack, because the servers' data belong together.")
    if dry_run:
        running = [name for name, server in anywhere.status(home).items() if server.running]
        out.print(f"Would stop: {', '.join(running) or 'nothing'}{'; and remove their data' if purge else ''}.")
        return
    with out.status("Stopping …"):
        stopped = anywhere.down(home, only=servers or SERVERS, purge=purge)
    out.print(f"Stopped: {', '.join(stopped) or 'nothing, nothing ran'}.{' Its data is gone.' if purge else ''}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON, with the credentials.")
def status(*, as_json: bool) -> None:
    """Show which servers run, and where."""
    home = _home()
    if as_json:
        servers = {name: asdict(server) for name, server in anywhere.status(home).items()}
        print(json.dumps({**servers, "settings": anywhere.settings(home)}, indent=2))
    else:
        _show(Console(highlight=False), home)


async def prepare(settings: Settings) -> list[str]:
    """Make fresh servers usable: migrations, then queues and topics. Says what it did; a second time that is nothing."""
    from adapters import topology
    from outbox.migrations import migrate_all

    applied = await migrate_all(settings)
    return [*applied, *map(str, await topology.apply(settings))]


def _home() -> Path:
    return Path(os.environ.get(f"{PREFIX}HOME", "."))


def _settings_of(home: Path, started: dict[str, str]) -> Settings:
    """The stack just started is the one to prepare, whatever server the environment names."""
    environ = {name: value for name, value in os.environ.items() if name not in started}
    return load_settings(environ, home / "var" / "local.env")


def _say_what_is_not_running(out: Console, home: Path, only: tuple[str, ...]) -> None:
    servers = anywhere.status(home)
    absent = [name for name in servers if not servers[name].running and name in only]
    out.print(f"Would start: {', '.join(absent) or 'nothing, all of it runs'}.")


def _show(out: Console, home: Path) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("server", "state", "address", "process", "memory"):
        table.add_column(column)
    for name, server in anywhere.status(home).items():
        state = "[green]runs[/]" if server.running else "[red]stopped[/]"
        table.add_row(name, state, server.address, str(server.pid or ""), _memory(server.pid))
    out.print(table)
    ui = urlsplit(anywhere.settings(home).get("RUSHLINE_RABBITMQ_MANAGEMENT_URL", ""))
    if ui.hostname:
        out.print(
            f"RabbitMQ's pages: http://{ui.hostname}:{ui.port} (user {ui.username}; its password: rushline status --json)",
            soft_wrap=True,
        )


def _memory(pid: int | None) -> str:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
    return f"{kilobytes / 1024:.0f} MB"
