"""What the terminal shows while the demonstration plays."""

from typing import Any

from rich.table import Table

from console.demo import sql
from console.demo.faults import Faults
from console.demo.stage import Stage
from orders.names import State
from simulation.world import Load


async def draw(stage: Stage, faults: Faults, seen: dict[str, Any], load: Load) -> Table:
    """One line for the customers, one for the orders, one for what goes wrong."""
    states = {row["state"]: row["orders"] for row in await stage.db.fetch(sql.STATES, stage.before.began)}
    status, latency = seen["status"], seen["latency_ms"]
    table = Table(show_header=False, box=None)
    table.add_row(
        "customers",
        f"{seen['arrived']} of about {seen['expected']:.0f} came ({load.rate:g}/s, rush {load.peak:g}/s), "
        f"{status.get('accepted', 0)} accepted, {status.get('refused', 0)} refused, POST p99 {latency.get('p99', 0)} ms",
    )
    table.add_row("orders", "  ".join(f"{state.value} {states[state]}" for state in State if state in states))
    table.add_row("faults", "  ".join(f"{fault.name}{'' if fault.ends else ' …'}" for fault in faults.done) or "none yet")
    return table
