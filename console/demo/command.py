"""The verb `rushline demo`: sets the stage, lets the evening pass, waits for quiet, judges, reports."""

import asyncio
import sys
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import click
import uvloop
from rich.console import Console
from rich.live import Live

from adapters.queues import queue_depths
from adapters.settings import load_settings
from adapters.topology_declared import TopologyError
from console.demo import sql
from console.demo.entries import tally
from console.demo.evidence import Evidence
from console.demo.faults import SCRIPTS, Faults, told
from console.demo.footprint import footprints
from console.demo.gathering import fact_counts, gather
from console.demo.invariants import judge_all
from console.demo.pace import Pace, choose
from console.demo.progress import draw
from console.demo.report import Report, show, write
from console.demo.stage import Stage, set_up
from console.demo.targets import measure_all
from simulation.world import Load

_LOOK_S: Final = 0.5
_QUIET_LOOKS: Final = 3
_REPORT: Final = "demo-report.json"


@click.command()
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same country and the same evening.")
@click.option("--cities", default=50, show_default=True)
@click.option("--rate", type=float, help="Orders a second outside the rush. Default: what fits the rush.")
@click.option("--peak", type=float, help="Orders a second within the rush. Default: 40, or less on a small or slow machine.")
@click.option("--duration", "duration_s", default=50.0, show_default=True, help="Seconds.")
@click.option("--time-scale", default=60.0, show_default=True, help="Business seconds in a second.")
@click.option("--patience", "patience_s", default=90.0, show_default=True, help="Seconds to wait for quiet afterwards.")
@click.option("--script", type=click.Choice([*SCRIPTS, "none"]), default="usual", show_default=True, help="What goes wrong.")
@click.option("--workers", default=1, show_default=True, help="Workers of each kind, side by side.")
@click.option("--free-ports", is_flag=True, help="Listen on free ports, beside another stack.")
@click.option("--keep", is_flag=True, help="Leave the servers running afterwards.")
def demo(
    *, seed: int, cities: int, rate: float | None, peak: float | None, duration_s: float, time_scale: float, patience_s: float,
    script: str, workers: int, free_ports: bool, keep: bool,
) -> None:  # fmt: skip
    """A dinner hour of a small country, with faults, and a report. Exit code 0 only where every promise held."""
    home = Path(load_settings().home).resolve()
    pace = choose(rate, peak)
    load = Load(rate=pace.rate, peak=pace.peak, duration_s=duration_s, patience_s=30.0)
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    _introduce(out, pace, cities)
    about = {
        "seed": seed, "cities": cities, "time_scale": time_scale, "script": script, "workers": workers,
        "rate": pace.rate, "peak": pace.peak, "slowness": pace.slowness, "strength": pace.strength, "duration_s": duration_s,
    }  # fmt: skip
    stage = set_up(home, seed=seed, cities=cities, time_scale=time_scale, free_ports=free_ports, workers=workers, keep=keep)
    report = uvloop.run(_play(stage, load, out, script, patience_s, about))
    write(report, home / "var" / _REPORT)
    show(report, out)
    _farewell(report, out, home, keep=keep)
    raise SystemExit(0 if report.passed else 1)


async def _play(
    setting: AbstractAsyncContextManager[Stage], load: Load, out: Console, script: str, patience_s: float, about: dict[str, Any]
) -> Report:
    """From the curtain's rise to the verdict."""
    async with setting as stage:
        faults = Faults(stage.settings, stage.world, stage.services)
        began = time.monotonic()
        await _evening(stage, faults, load, out, script=script)
        quiet = await _quiet(stage, out, patience_s)
        evidence = await gather(stage.db, stage.settings, stage.world, stage.before, faults.deeds)
        about |= {
            "took_s": round(time.monotonic() - began, 1),
            "became_quiet": quiet,
            "processes": footprints(stage.pids()),
            "restarts": {name: count for name, count in stage.services.restarts.items() if count},
            "rabbitmq_ui": stage.settings.rabbitmq_management_url.rsplit("@", 1)[-1],
            "api": stage.settings.base_url,
        }
        return Report(
            orders=fact_counts(evidence),
            messages={"commands": tally(evidence.entries), "facts": evidence.facts},
            slo=measure_all(evidence),
            invariants=judge_all(evidence),
            faults=told(faults, _outcomes(evidence)),
            about=about,
        )


def _introduce(out: Console, pace: Pace, cities: int) -> None:
    out.print(
        f"A dinner hour of {cities} cities in a minute: {pace.rate:g} orders a second, {pace.peak:g} in the rush.{pace.why}"
    )


async def _evening(stage: Stage, faults: Faults, load: Load, out: Console, *, script: str) -> None:
    stop = asyncio.Event()
    await stage.world.start_customers(load)
    playing = asyncio.create_task(faults.play(script, load.duration_s, stop)) if script in SCRIPTS else None
    try:
        with Live(console=out, refresh_per_second=4, transient=False) as live:
            while not (seen := await stage.world.customers())["finished"]:
                live.update(await draw(stage, faults, seen, load))
                await asyncio.sleep(_LOOK_S)
        if playing is not None:
            await playing
    finally:
        stop.set()
        if playing is not None and not playing.done():
            playing.cancel()


async def _quiet(stage: Stage, out: Console, patience_s: float) -> bool:
    """Wait until nothing is under way any more. False where patience ran out: the invariants then say what is left."""
    quiet, ends = 0, time.monotonic() + patience_s
    with out.status("The evening is over; what is under way is brought to its end …"):
        while time.monotonic() < ends:
            quiet = quiet + 1 if not await _left_over(stage) else 0
            if quiet >= _QUIET_LOOKS:
                return True
            await asyncio.sleep(_LOOK_S)
    return False


async def _left_over(stage: Stage) -> bool:
    (unfinished,) = await stage.db.fetch(sql.UNFINISHED, stage.before.began)
    if any(unfinished.values()) or await stage.db.fetch(sql.BEHIND, stage.before.began):
        return True
    try:
        depths = await queue_depths(stage.settings)
    except TopologyError:
        return True
    return any(depth > stage.before.queues.get(name, 0) for name, depth in depths.items())


def _outcomes(e: Evidence) -> dict[str, Any]:
    """What people did, as it came out."""
    plots: dict[str, Counter[str]] = {}
    for order_id, placed in e.placed.items():
        order = e.orders.get(order_id)
        if placed.plot != "plain" and order is not None:
            plots.setdefault(placed.plot, Counter())[f"{order.state}{f' ({order.reason})' if order.reason else ''}"] += 1
    letters = Counter(f"{letter.state} ({letter.resolution or 'waits for an operator'})" for letter in e.letters)
    reasons = Counter(o.reason for o in e.orders.values() if o.reason and o.state != "delivered")
    told_so = {
        plot: {"injected": f"{sum(ends.values())} customers, seeded", "became": ", ".join(f"{n} {k}" for k, n in ends.items())}
        for plot, ends in sorted(plots.items())
    }
    ends = {
        "injected": "why orders ended otherwise than delivered",
        "became": ", ".join(f"{n} {k}" for k, n in reasons.items()),
    }
    failed = {
        "injected": f"{len(e.letters)} messages that failed for good, or an order's failures that were compensated",
        "became": ", ".join(f"{n} {k}" for k, n in letters.items()),
    }
    alarmed = {
        "injected": "whom the system called by itself",
        "became": ", ".join(
            f"{alert.kind} {alert.subject} ({f'over after {alert.lasted_s:.0f} s' if alert.over else 'not over'})"
            for alert in e.alerts
        ),
    }
    return {**told_so, "reasons": ends, "letters": failed, "alerts": alarmed}


def _farewell(report: Report, out: Console, home: Path, *, keep: bool) -> None:
    verdict = "[green]Every promise held.[/]" if report.passed else "[red]Not every promise held.[/]"
    out.print(f"{verdict} The report: {home / 'var' / _REPORT}")
    if not keep:
        out.print("Look further, on the same data: `.venv/bin/rushline up`, then `.venv/bin/rushline run`.")
    out.print(f"API documentation: {report.about['api']}/schema (while `rushline run` runs)")
    out.print(f"RabbitMQ UI: http://{report.about['rabbitmq_ui']} (user and password: `rushline status --json`)")
    out.print("One order from start to end, by hand: see the README.")
