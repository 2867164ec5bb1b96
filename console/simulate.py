"""The only place for `rushline simulate`: the outside world, started, watched and stopped."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from adapters.process import serve
from adapters.settings import Settings
from simulation.country import CITIES, DRIVERS_PER_CITY
from simulation.world import Load, Place, Ports, World

_LOOK_S: Final = 2.0


@click.command()
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same country and the same evening.")
@click.option("--cities", type=click.IntRange(1, 500), default=CITIES, show_default=True)
@click.option("--drivers-per-city", type=click.IntRange(1, 1_000), default=DRIVERS_PER_CITY, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Orders a second outside the rush. 0: nobody comes, and the world waits for orders by hand until Ctrl-C.",
)
@click.option("--peak", type=click.FloatRange(min=0), default=0.0, help="Orders a second within the rush; 0: no rush.")
@click.option("--duration", "duration_s", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds.")
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait afterwards until every order is final.",
)
@click.option(
    "--time-scale",
    type=click.FloatRange(min=0.001),
    help="How fast people think and drive; default: the setting TIME_SCALE, as the services have it.",
)
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="A file for all orders, as JSON lines.")
@click.option(
    "--first-port",
    type=click.IntRange(1_024, 65_530),
    default=58_101,
    show_default=True,
    help="The provider's port; the five after it are the other parts'.",
)
@click.option("--free-ports", is_flag=True, help="Listen on free ports, beside another world.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def simulate(
    *, seed: int, cities: int, drivers_per_city: int, rate: float, peak: float, duration_s: float, settle_s: float,
    time_scale: float | None, record: Path | None, first_port: int, free_ports: bool, as_json: bool,
) -> None:  # fmt: skip
    """Play the outside world: restaurants, drivers, a payment provider, and customers who order."""
    load = Load(rate=rate, peak=peak, duration_s=duration_s, settle_s=settle_s, record=record)
    ports = Ports.free() if free_ports else Ports.from_first(first_port)

    async def play(settings: Settings, stop: asyncio.Event) -> None:
        scale = time_scale or settings.time_scale
        place = Place(seed=seed, cities=cities, drivers_per_city=drivers_per_city, time_scale=scale)
        async with await World.start(settings, place=place, ports=ports) as world:
            _introduce(world, place, settings, quiet=as_json)
            if rate <= 0:
                await stop.wait()
                return
            await world.start_customers(load)
            _conclude(await _watch(world, stop, quiet=as_json), as_json=as_json)

    serve("simulate", play)


async def _watch(world: World, stop: asyncio.Event, *, quiet: bool) -> dict[str, Any]:
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_S)
        seen = await world.customers()
        if not quiet:
            status, latency = seen["status"], seen["latency_ms"]
            click.echo(
                f"{seen['arrived']:6} of about {seen['expected']:.0f} orders   accepted {status.get('accepted', 0)}"
                f"   refused {status.get('refused', 0)}   p99 {latency.get('p99', 0)} ms"
            )
        if seen["finished"] or stop.is_set():
            return seen


def _introduce(world: World, place: Place, settings: Settings, *, quiet: bool) -> None:
    if quiet:
        return
    click.echo(f"A country of {place.cities} cities (seed {place.seed}), which orders at {settings.base_url}.")
    for name, url in world.urls.items():
        click.echo(f"  {name:18}{url}/_sim/")
    click.echo("Rushline finds it with " + " ".join(f"{name}={value}" for name, value in world.environment.items()))


def _conclude(seen: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(seen, indent=2))
        return
    for title in ("status", "outcomes", "plots", "problems", "counts", "latency_ms"):
        rows = ", ".join(f"{name} {number}" for name, number in seen[title].items())
        click.echo(f"{title:12}{rows or '-'}")
