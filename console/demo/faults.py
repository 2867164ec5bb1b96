"""The only place that decides what goes wrong in the demonstration, and when; and does it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from adapters.queues import put_by_hand
from adapters.settings import Settings
from console.demo.evidence import Window
from console.supervisor import Supervisor
from orders.ids import new_id
from orders.names import COMMANDS_EXCHANGE, POISON
from simulation.world import World
from stack import anywhere

log = structlog.get_logger()

_SETTLES_S = 3.0  # after a fault has ended: reconnecting, the first delay tier


class Fault(msgspec.Struct):
    """Something that was done to the system. Times in seconds since the epoch."""

    name: str
    what: str
    begins: float
    ends: float = 0.0
    became: str = ""


class Faults:
    """Everything that is done on purpose, and the record of it."""

    def __init__(self, settings: Settings, world: World, services: Supervisor) -> None:
        self._settings, self._world, self._services = settings, world, services
        self.done: list[Fault] = []
        self.parked: dict[str, int] = {}

    @property
    def windows(self) -> list[Window]:
        """When orders may have been touched, recovery included."""
        return [Window(fault.name, fault.begins, fault.ends + _SETTLES_S) for fault in self.done if fault.ends]

    async def play(self, duration_s: float, stop: asyncio.Event) -> None:
        """The script, over an evening of this length."""
        script: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (0.02, self.people_misbehave),
            (0.12, self.provider_outage),
            (0.30, self.kill_worker),
            (0.42, self.fraud_spell),
            (0.48, self.poison),
            (0.52, self.kill_relay),
            (0.66, self.kafka_down),
        ]
        start = time.monotonic()
        for at, act in script:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, start + at * duration_s - time.monotonic()))
                return
            log.info("fault", name=act.__name__)
            await act()

    def _begin(self, name: str, what: str) -> Fault:
        fault = Fault(name, what, time.time())
        self.done.append(fault)
        return fault

    async def people_misbehave(self) -> None:
        """On top of the seeded shares, so that even a short evening has some of each."""
        stages = ("placed", "payment_processing", "payment_confirmed", "restaurant_notified", "restaurant_accepted",
                  "driver_assigned")  # fmt: skip
        await self._world.behave("customers", plots_next=[*(f"cancel_at_{stage}" for stage in stages), "declined",
                                                          "insufficient_funds"])  # fmt: skip
        await self._world.behave("restaurants", reject_next=2, closing_next=1, unavailable_next=1, silent_next=1)
        await self._world.behave("drivers", no_show_next=3, release_next=2)
        await self._world.behave("provider", lost_answer_rate=0.003, error_after_rate=0.003)

    async def provider_outage(self) -> None:
        fault = self._begin("provider_outage", "the payment provider answers 500 to everything for 5 s")
        await self._world.behave("provider", outage="500")
        await asyncio.sleep(5.0)
        await self._world.behave("provider", outage=None)
        fault.ends = time.time()

    async def kill_worker(self) -> None:
        await self._kill("worker-payments", "a payments worker")

    async def kill_relay(self) -> None:
        await self._kill("relay", "the active relay")

    async def _kill(self, prefix: str, who: str) -> None:
        name = next(name for name in self._services.processes if name.startswith(prefix))
        fault = self._begin(f"sigkill_{prefix.replace('-', '_')}", f"SIGKILL to {who}, with its hands full")
        victim = self._services.processes[name]
        victim.kill()
        await victim.wait()
        async with asyncio.timeout(30):
            await self._services.replaced(name, victim)
        fault.ends = time.time() + 1.0  # until it is at work again
        fault.became = "started again by the supervisor"

    async def fraud_spell(self) -> None:
        fault = self._begin("fraud_spell", "eight orders with one stolen card within two seconds")
        await self._world.behave("customers", fraud_spell=8)
        fault.became = "see fraud in the orders' reasons"

    async def poison(self) -> None:
        fault = self._begin("poison", "a command that nobody can read, put into the exchange by hand")
        message_id = new_id("cmd")
        headers = {"cloudEvents_id": message_id, "cloudEvents_type": "payment.charge", "cloudEvents_subject": "ord_nobody",
                   "cloudEvents_schemaversion": "1"}  # fmt: skip
        routed = await put_by_hand(
            self._settings, exchange=COMMANDS_EXCHANGE, routing_key="payment.charge", body=b"\x00\xffnot JSON",
            headers=headers, message_id=message_id,
        )  # fmt: skip
        if routed:
            self.parked[POISON] = self.parked.get(POISON, 0) + 1
        fault.became = f"quarantined in {POISON}, for an operator to look at"

    async def kafka_down(self) -> None:
        fault = self._begin("kafka_down", "Kafka is stopped for 5 s, and started again")
        home = Path(self._settings.home)
        await asyncio.to_thread(anywhere.down, home, only=("kafka",))
        await asyncio.sleep(5.0)
        await asyncio.to_thread(anywhere.up, home, only=("kafka",))
        fault.ends = time.time()
        fault.became = "orders went on; facts waited in the outbox and were published afterwards"


def told(faults: Faults, outcomes: dict[str, Any]) -> dict[str, Any]:
    """For the report: what was injected, and what became of it."""
    injected = {
        fault.name: {
            "injected": fault.what,
            "at": fault.begins,
            "lasted_s": round(fault.ends - fault.begins, 1) if fault.ends else 0,
            "became": fault.became or "see the orders touched by it",
        }
        for fault in faults.done
    }
    return {**injected, **outcomes}
