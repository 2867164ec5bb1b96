"""The provider's process: flags, one object, await it. `python -m simulation.provider --help` lists the knobs."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from simulation.provider.faults import Behaviour, Faults
from simulation.provider.idempotency import DAY_S, Keys
from simulation.provider.ledger import Ledger
from simulation.provider.server import Server
from simulation.provider.service import Provider
from simulation.provider.webhooks import Webhooks


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation.provider", description="Stripe's API, simulated, with faults on demand.")
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=58101, help="0: one that is free; it is printed")
    add("--control-port", type=int, help="a second port, which stays open while an outage refuses connections")
    add("--seed", type=int, default=1)
    add("--key", default="", help="the API key to demand; empty: any")
    add("--ledger", type=Path, help="append every movement to this file, and start from it")
    add("--webhook-url", default="", help="where events go; empty: nowhere")
    add("--webhook-secret", default="whsec_simulation")
    add("--webhook-delay-s", type=float, default=1.5)
    add("--time-scale", type=float, default=1.0, help="keys are forgotten after a day divided by this")
    add("--key-ttl-s", type=float, help="keys are forgotten after so many seconds, whatever the time scale")
    knobs = Behaviour()
    for name in ("latency_median_ms", "latency_sigma", "lost_answer_rate", "error_before_rate", "error_after_rate"):
        add(f"--{name.replace('_', '-')}", type=float, default=getattr(knobs, name))
    for name in ("rate_limit_rate", "hang_s"):
        add(f"--{name.replace('_', '-')}", type=float, default=getattr(knobs, name))
    return parser.parse_args()


async def _main(flags: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    knobs = {name: value for name, value in vars(flags).items() if name in Behaviour.__struct_fields__}
    ledger = Ledger(flags.ledger)
    try:
        async with Webhooks(flags.webhook_url, flags.webhook_secret, flags.webhook_delay_s) as webhooks:
            keys = Keys(flags.key_ttl_s or DAY_S / flags.time_scale)
            faults = Faults(flags.seed, Behaviour(**knobs))
            provider = Provider(ledger=ledger, keys=keys, faults=faults, webhooks=webhooks, seed=flags.seed, key=flags.key)
            async with Server(provider, flags.host, flags.port, flags.control_port) as server:
                sys.stdout.write(f"listening on http://{flags.host}:{server.port}\n")
                sys.stdout.flush()
                await stop.wait()
    finally:
        ledger.close()


if __name__ == "__main__":
    uvloop.run(_main(_flags()))
