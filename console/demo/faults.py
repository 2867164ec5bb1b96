"""The only place that decides what goes wrong in the demonstration, and when; and does it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import structlog

from adapters.queues import put_by_hand
from adapters.settings import Settings
from console.demo.evidence import Deeds, Window
from console.supervisor import Supervisor
from orders.ids import new_id
from orders.names import COMMANDS_EXCHANGE
from simulation.operators import NotAnsweredError, Operator, open_operator
from simulation.world import World
from stack import anywhere

log = structlog.get_logger()

Act: TypeAlias = Callable[[], Awaitable[None]]
SCRIPTS: Final = ("usual", "storm")
_SETTLES_S: Final = 3.0  # after a fault has ended: reconnecting, the first delay tier
_SHORT_OUTAGE_S: Final = 5.0
_LONG_OUTAGE_S: Final = 20.0
_WITHOUT: Final = {
    "kafka": "orders went on; facts waited in the outbox and were published afterwards",
    "rabbitmq": "orders were accepted; commands waited in the outbox and were done afterwards",
}


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
        self.parked: list[str] = []
        self.gave_up: list[str] = []
        self.shifts = 0

    @property
    def deeds(self) -> Deeds:
        """For the verdict. Its windows say when orders may have been touched, recovery included."""
        windows = [Window(fault.name, fault.begins, fault.ends + _SETTLES_S) for fault in self.done if fault.ends]
        return Deeds(windows=windows, parked=self.parked, gave_up=self.gave_up, shifts=self.shifts)

    def _script(self, name: str) -> list[tuple[float, Act]]:
        """What happens at which part of the evening."""
        usual: list[tuple[float, Act]] = [
            (0.02, self.people_misbehave),
            (0.12, self.provider_outage),
            (0.30, self.kill_worker),
            (0.42, self.fraud_spell),
            (0.46, self.poison),
            (0.50, self.kill_relay),
            (0.56, self.expired_key),
            (0.72, self.kafka_down),
        ]
        storm: list[tuple[float, Act]] = [
            (0.02, self.people_misbehave),
            (0.10, self.kill_each),
            (0.40, partial(self.server_down, "rabbitmq", _LONG_OUTAGE_S)),
            (0.70, partial(self.server_down, "kafka", _LONG_OUTAGE_S)),
        ]
        return {"usual": usual, "storm": storm}[name]

    async def play(self, script: str, duration_s: float, stop: asyncio.Event) -> None:
        """A script, over an evening of this length."""
        start = time.monotonic()
        for at, act in self._script(script):
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, start + at * duration_s - time.monotonic()))
                return
            await act()

    def _begin(self, name: str, what: str) -> Fault:
        fault = Fault(name, what, time.time())
        self.done.append(fault)
        log.info("fault", name=name)
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
        fault = self._begin("provider_outage", f"the payment provider answers 500 to everything for {_SHORT_OUTAGE_S:g} s")
        await self._world.behave("provider", outage="500")
        async with self._operator(fault) as operator:
            await operator.until_alarmed("breaker-open", alarmed=True)
            opened_s = time.time() - fault.begins
            await asyncio.sleep(max(0.0, fault.begins + _SHORT_OUTAGE_S - time.time()))
            await self._world.behave("provider", outage=None)
            back = time.time()
            await operator.until_alarmed("breaker-open", alarmed=False)
            fault.became = (
                f"seen by an operator: its breaker open after {opened_s:.1f} s, and closed {time.time() - back:.1f} s after the "
                "provider was back; charges waited in their queue meanwhile"
            )
        await self._world.behave("provider", outage=None)
        fault.ends = time.time()

    async def kill_worker(self) -> None:
        await self._kill(next(name for name in self._services.processes if name.startswith("worker-payments")))

    async def kill_relay(self) -> None:
        await self._kill("relay")

    async def kill_each(self) -> None:
        """Every process of ours, one after the other, each when the one before is back."""
        for name in sorted(self._services.processes):
            await self._kill(name)

    async def _kill(self, name: str) -> None:
        fault = self._begin(f"sigkill_{re.sub('[^a-z0-9]', '_', name)}", f"SIGKILL to {name}, with its hands full")
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
        """A message that nobody can read, by hand; an operator finds it in quarantine and decides."""
        fault = self._begin("poison", "a command that nobody can read, put into the exchange by hand")
        message_id = new_id("cmd")
        headers = {"cloudEvents_id": message_id, "cloudEvents_type": "payment.charge", "cloudEvents_subject": "ord_nobody",
                   "cloudEvents_schemaversion": "1"}  # fmt: skip
        routed = await put_by_hand(
            self._settings, exchange=COMMANDS_EXCHANGE, routing_key="payment.charge", body=b"\x00\xffnot JSON",
            headers=headers, message_id=message_id,
        )  # fmt: skip
        if not routed:
            fault.became = "no queue took it"
            self.gave_up.append(f"{fault.name}: {fault.became}")
            return
        self.parked.append(message_id)
        async with self._operator(fault) as operator:
            (letter,) = await operator.wait_for_letters(state="open", message_id=message_id)
            await operator.discard(letter, "put in by hand, belongs to no order")
            fault.became = "quarantined with its bytes, found by an operator, discarded with a reason"

    async def expired_key(self) -> None:
        """The SMS provider refuses our key for a while: nothing that a retry could mend. Then an operator sends all again."""
        fault = self._begin("expired_key", f"the SMS provider refuses our key with 401 for {_SHORT_OUTAGE_S:g} s")
        await self._world.behave("messaging", sms_key_expired=True)
        await asyncio.sleep(_SHORT_OUTAGE_S)
        await self._world.behave("messaging", sms_key_expired=False)
        fault.ends = time.time()
        async with self._operator(fault) as operator:
            wanted = {"consumer": "notifications", "type": "notification.sms"}
            (letter, *_) = await operator.wait_for_letters(state="open", **wanted)
            wanted["fingerprint"] = letter["fingerprint"]
            replay = await operator.replay(wanted, "the key was renewed")
            fault.became = (
                f"parked; an operator sent all again, one first, then five, then the rest: {replay['done']} of "
                f"{replay['total']} done, {replay['failed']} failed, the replay is {replay['state']}"
            )
            if replay["state"] != "done" or replay["failed"]:
                self.gave_up.append(f"{fault.name}: {fault.became}")

    @asynccontextmanager
    async def _operator(self, fault: Fault) -> AsyncIterator[Operator]:
        """Somebody who looks after it. What they could not do is told in the report, and breaks a promise."""
        self.shifts += 1
        async with open_operator(self._settings) as operator:
            try:
                yield operator
            except NotAnsweredError as error:
                fault.became = f"the operator gave up: {error}"
                self.gave_up.append(f"{fault.name}: {error}")

    async def kafka_down(self) -> None:
        await self.server_down("kafka", _SHORT_OUTAGE_S)

    async def server_down(self, server: str, seconds: float) -> None:
        fault = self._begin(f"{server}_down", f"{server} is stopped for {seconds:g} s, and started again")
        home = Path(self._settings.home)
        await asyncio.to_thread(anywhere.down, home, only=(server,))
        await asyncio.sleep(seconds)
        await asyncio.to_thread(anywhere.up, home, only=(server,))
        fault.ends = time.time()
        fault.became = _WITHOUT[server]


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
