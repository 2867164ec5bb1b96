"""The verb `rushline bench`: a stack of its own on free ports, measured, and cleared away. No figure decides anything."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, redirect_stderr
from pathlib import Path
from typing import Final

import click
import msgspec
import uvloop

from adapters.settings import PREFIX, Settings, load_settings
from adapters.telemetry import configure
from bench.arrival import arrival_times
from bench.audit_archive import audit_archive
from bench.audit_cost import audit_cost
from bench.audit_ingest import audit_ingest
from bench.audit_scale import audit_scale
from bench.audit_verify import verify_rate
from bench.change import change_costs
from bench.failures import failure_costs
from bench.letters import letter_pages, letters_taken_in
from bench.making import Figure
from bench.relay import relay_rates
from bench.replaying import replay_rate
from bench.tiers import tier_lateness
from console.demo import sql
from console.demo.footprint import footprints
from console.demo.stage import Stage, set_up
from console.output import emit
from console.stack import prepare
from simulation.world import Load
from stack import anywhere
from stack.ports import Ports


class Size(msgspec.Struct, frozen=True):
    """How much of each is measured."""

    rows: int
    orders: int
    events: int


_Measure = Callable[[Settings, Size], Awaitable[list[Figure]]]
# Each on the same servers, in this order: what leaves most behind comes last.
_ON_SERVERS: Final[dict[str, _Measure]] = {
    "audit-cost": lambda settings, _: audit_cost(settings, 500),
    "audit-ingest": lambda settings, _: audit_ingest(settings, 100_000),
    "audit-archive": lambda settings, _: audit_archive(settings, 200_000),
    "audit-verify": lambda settings, _: verify_rate(settings, 300_000),
    "audit-scale": lambda settings, size: audit_scale(settings, size.events),
    "change": lambda settings, _: change_costs(settings, 2_000),
    "arrival": lambda settings, _: arrival_times(settings, 1_000),
    "failures": lambda settings, _: failure_costs(settings, 3_000),
    "replays": lambda settings, _: replay_rate(settings, 10_000),
    "intake": lambda settings, _: letters_taken_in(settings, 10_000),
    "letters": lambda settings, _: letter_pages(settings, 1_000_000),
    "relay": lambda settings, size: relay_rates(settings, size.rows),
    "tiers": lambda settings, _: tier_lateness(settings),
}
PARTS = (*_ON_SERVERS, "orders")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Only this part; may be given more than once.")
@click.option("--rows", default=20_000, show_default=True, help="Outbox rows for the relay.")
@click.option("--events", default=1_000_000, show_default=True, help="Events in the ledger that support searches.")
@click.option("--orders", default=1_000, show_default=True, help="Orders from end to end.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def bench(*, only: tuple[str, ...], rows: int, events: int, orders: int, as_json: bool) -> None:
    """Measure throughput, latency and memory on this machine, with everything on it."""
    home = Path(load_settings().home).resolve() / "var" / "bench"
    figures = uvloop.run(_measure(home, only or PARTS, Size(rows, orders, events)))
    emit([msgspec.to_builtins(figure) for figure in figures], as_json=as_json, empty="Nothing was measured.")


async def _measure(home: Path, parts: tuple[str, ...], size: Size) -> list[Figure]:
    figures: list[Figure] = []
    if chosen := [measure for name, measure in _ON_SERVERS.items() if name in parts]:
        async with _servers(home) as settings:
            with (home / "bench.log").open("w") as log, redirect_stderr(log):
                configure("bench", settings)  # as the services log: a line in JSON for whatever fails
                for measure in chosen:
                    figures += await measure(settings, size)
    if "orders" in parts:
        figures += await _orders(home, size.orders)
    return figures


@asynccontextmanager
async def _servers(home: Path) -> AsyncIterator[Settings]:
    started = await asyncio.to_thread(anywhere.up, home, Ports.free())
    try:
        settings = load_settings({**started.settings, f"{PREFIX}HOME": str(home)}, local=Path(os.devnull))
        await prepare(settings)
        yield settings
    finally:
        await asyncio.to_thread(anywhere.down, home, purge=True)
        shutil.rmtree(home, ignore_errors=True)


async def _orders(home: Path, orders: int) -> list[Figure]:
    """All of them at once, people who think and drive in no time: what the system itself sustains."""
    load = Load(rate=float(orders) / 10, duration_s=10.0 / 0.88, patience_s=120.0)
    async with set_up(home, seed=1, cities=50, time_scale=600.0, free_ports=True, keep=False) as stage:
        idle = sum(each.rss_mib for each in footprints(stage.pids()).values())
        began = time.monotonic()
        await stage.world.start_customers(load)
        done = await _until_done(stage)
        took = time.monotonic() - began
        latency = (await stage.world.customers())["latency_ms"]
        costs = footprints(stage.pids())
    await asyncio.to_thread(anywhere.down, home, purge=True)
    shutil.rmtree(home, ignore_errors=True)
    ours = {name: cost for name, cost in costs.items() if not name.startswith("sim-")}
    return [
        Figure("orders from end to end", done / took, "orders/s", f"{done} orders, every service and server on this machine"),
        *(Figure(f"POST /v1/orders, {p}", latency.get(p, 0.0), "ms", "under that load") for p in ("p50", "p99")),
        Figure("memory of our processes, idle", idle, "MiB", f"{len(ours)} with the servers, and the simulation's"),
        *(Figure(f"memory of {name}", cost.rss_mib, "MiB", f"{cost.cpu_s:.1f} s of processor") for name, cost in costs.items()),
    ]


async def _until_done(stage: Stage) -> int:
    while not (seen := await stage.world.customers())["finished"]:
        await asyncio.sleep(0.2)
    accepted = int(seen["status"].get("accepted", 0))
    async with asyncio.timeout(300):
        while True:
            (left,) = await stage.db.fetch(sql.UNFINISHED, stage.before.began)
            if not any(left.values()):
                return accepted
            await asyncio.sleep(0.2)
