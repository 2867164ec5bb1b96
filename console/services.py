"""The verbs that run services: one process each, or all of them supervised."""

import asyncio
import os
from pathlib import Path

import click

from adapters.process import serve
from adapters.settings import Settings
from console.supervisor import FEWEST, GROUPS, LETTERS, WORK, Supervisor, plan
from orders.envelope import Broker
from orders.names import Queue


@click.command()
def gateway() -> None:
    """Serve HTTP: customers, restaurants, drivers, support, operators."""
    from gateway.__main__ import run as run_gateway

    serve("gateway", run_gateway)


@click.command()
@click.option("--lane", "lanes", multiple=True, type=click.Choice([b.value for b in Broker]), help="Only this lane.")
@click.option("--with-clock", is_flag=True, help="Run the clock in this process, too.")
def relay(lanes: tuple[str, ...], *, with_clock: bool) -> None:
    """Publish the outbox: commands to RabbitMQ, facts to Kafka. A second one is a hot standby."""
    from outbox.__main__ import LANES, run_clock, run_relay

    async def run_both(settings: Settings, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_relay(settings, stop, [Broker(lane) for lane in lanes] or LANES))
            if with_clock:
                tasks.create_task(run_clock(settings, stop))

    serve("relay", run_both)


@click.command()
def clock() -> None:
    """Turn deadlines that are due into commands. A second one is a hot standby."""
    from outbox.__main__ import run_clock

    serve("clock", run_clock)


@click.command()
@click.argument("queues", nargs=-1, type=click.Choice(WORK))
def worker(queues: tuple[str, ...]) -> None:
    """Do the commands of these queues, record and keep the letters, or all of that."""
    from workers.__main__ import run as run_workers
    from workers.letters import run as run_letters

    async def run_queues(settings: Settings, stop: asyncio.Event) -> None:
        wanted = queues or WORK
        jobs = [run_letters(settings, stop)] if LETTERS in wanted else []
        if of_commands := [Queue(name) for name in wanted if name != LETTERS]:
            jobs.append(run_workers(settings, of_commands, stop))
        try:
            async with asyncio.TaskGroup() as tasks:
                for job in jobs:
                    tasks.create_task(job)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors  # as if it were alone: the first failure has ended the other

    serve("worker", run_queues)


class _StreamGroup(click.Group):
    """`rushline stream fraud audit` follows groups; `rushline stream replay …` is a verb of its own."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in GROUPS:
            return super().resolve_command(ctx, ["follow", *args])
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "follow":
            return follow
        from console.stream import stream as verbs

        return verbs.get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        from console.stream import stream as verbs

        return ["follow", *verbs.list_commands(ctx)]


@click.group(cls=_StreamGroup, invoke_without_command=True)
@click.pass_context
def stream(ctx: click.Context) -> None:
    """Follow the facts for one or more groups (all, where none is named), or replay, seek, skip."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(follow, groups=())


@click.command()
@click.argument("groups", nargs=-1, type=click.Choice(GROUPS))
def follow(groups: tuple[str, ...]) -> None:
    """Follow the facts for these groups, or for all."""
    from streams.__main__ import run as run_streams

    async def run_groups(settings: Settings, stop: asyncio.Event) -> None:
        await run_streams(settings, groups or GROUPS, stop)

    serve("stream", run_groups)


@click.command()
@click.option("--processes", type=click.IntRange(min=FEWEST), help=f"At most so many processes (at least {FEWEST}).")
@click.option("--relays", default=1, show_default=True, help="Relays side by side: one active, the others standing by.")
@click.option("--workers", default=1, show_default=True, help="Workers of each kind.")
@click.option("--streams", default=1, show_default=True, help="Consumers of each group.")
def run(processes: int | None, relays: int, workers: int, streams: int) -> None:
    """Run every service, supervised, until Ctrl-C. Logs go to var/log, one file a process."""
    parts = plan(processes, {"relay": relays, "clock": relays, "worker": workers, "stream": streams})

    async def supervise(settings: Settings, stop: asyncio.Event) -> None:
        log_dir = Path(settings.home) / "var" / "log"
        click.echo(f"Running {len(parts)} processes; logs in {log_dir}. The API is at {settings.base_url}/schema")
        supervisor = Supervisor(parts, os.environ, log_dir)
        if not await supervisor.run(stop):
            raise click.ClickException(f"A process cannot start. {supervisor.last_words}")

    serve("run", supervise)
