"""All trouble at once, seeded: outages, keys, poison, repeats, a constraint in the way, SIGKILLs; and the operator who clears up."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from adapters.kafka import open_producer
from adapters.queues import put_by_hand
from console.demo.stage import Stage
from orders.commands import command_id
from orders.ids import new_id
from orders.names import COMMANDS_EXCHANGE, ORDERS_TOPIC, Command
from simulation.client import Caller, open_gateway
from simulation.serving import fate

DURATION_S: Final = 30.0
_LOOK_S: Final = 0.5
_OUTAGE_S: Final = 4.0
_KILLS: Final = 12
_RECENT: Final = "SELECT order_id, customer_id FROM orders WHERE placed_at >= $1 ORDER BY order_id"


class Trouble:
    """What is done to the system in one evening. `parked`: put in by hand, to be discarded; `edited`: to be mended."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage, self._dice = stage, fate(seed, "trouble")
        self.parked: list[str] = []
        self.edited: list[str] = []
        self.repeated = 0
        self.killed: list[str] = []
        self._one_at_a_time = asyncio.Lock()  # the stage has one connection

    async def play(self) -> None:
        """Each fault at a moment of its own, all of them over each other."""
        faults: list[Callable[[], Awaitable[None]]] = [
            self._people, self._provider("500"), self._provider("timeout"), self._key_expired, self._dead_host,
            self._no_drivers, self._bad_column, self._poison, self._misspelt, self._bad_facts, self._repeats,
        ]  # fmt: skip
        kills = [self._kill] * _KILLS
        await asyncio.gather(*(self._at(self._dice.uniform(0.1, 0.8) * DURATION_S, act) for act in [*faults, *kills]))

    async def _at(self, after_s: float, act: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(after_s)
        await act()

    async def _people(self) -> None:
        world = self._stage.world
        await world.behave("restaurants", reject_next=4, closing_next=1, unavailable_next=3, silent_next=2)
        await world.behave("drivers", no_show_next=3, release_next=2)
        await world.behave("customers", fraud_spell=8, plots_next=[
            "cancel_at_payment_processing", "cancel_at_payment_confirmed", "cancel_at_restaurant_accepted", "declined",
            "flaky_card", "cancel_at_driver_assigned", "insufficient_funds", "cancel_at_restaurant_notified",
        ])  # fmt: skip
        await world.behave("provider", lost_answer_rate=0.05, error_after_rate=0.05, error_before_rate=0.05, hang_s=2.0)

    def _provider(self, kind: str) -> Callable[[], Awaitable[None]]:
        async def outage() -> None:
            await self._stage.world.behave("provider", outage=kind)
            await asyncio.sleep(_OUTAGE_S)
            await self._stage.world.behave("provider", outage=None)

        return outage

    async def _key_expired(self) -> None:
        await self._stage.world.behave("messaging", sms_key_expired=True)
        await asyncio.sleep(3 * _OUTAGE_S)
        await self._stage.world.behave("messaging", sms_key_expired=False)

    async def _dead_host(self) -> None:
        hosts = [row["restaurant_id"] for row in await self._rows("SELECT restaurant_id FROM restaurants")]
        await self._stage.world.behave("restaurants", outage_of=self._dice.sample(sorted(hosts), 3))
        await asyncio.sleep(2 * _OUTAGE_S)
        await self._stage.world.behave("restaurants", outage_of=[])

    async def _no_drivers(self) -> None:
        await self._rows("UPDATE drivers SET status = 'offline' WHERE status = 'available'")
        await asyncio.sleep(_OUTAGE_S)
        await self._rows("UPDATE drivers SET status = 'available' WHERE status = 'offline'")

    async def _bad_column(self) -> None:
        """Support's table refuses some orders: their facts are held, woken by the tiers, and parked as that does not help."""
        refuse = "ALTER TABLE support_orders ADD CONSTRAINT refuses CHECK (right(order_id, 1) > '3') NOT VALID"
        await self._rows(refuse)
        await asyncio.sleep(8 * _OUTAGE_S)
        await self._rows("ALTER TABLE support_orders DROP CONSTRAINT refuses")

    async def _poison(self) -> None:
        """Of every kind, some of it in the name of a real order; the last one is unknown to every order."""
        order = await self._order()
        body = msgspec.json.encode({"order_id": order, "position": 1})
        nobody = msgspec.json.encode({"order_id": new_id("ord"), "position": 1})
        await self._park("payment.charge", b"\x00\xffnot JSON", subject=order)
        await self._park("notification.sms", b'{"order_id": 7}', subject=order)
        await self._park("driver.dispatch", body, subject=order, version="99")
        await self._park("restaurant.notify", body, subject=order, kind="order.completed")
        await self._park("payment.charge", body, subject=order, kind="driver.dispatch")
        await self._park("order.cancel", b"[" * 500_000, subject=order)
        await self._park("payment.refund", body, subject=order, kind="payment.steal")
        await self._park("payment.charge", nobody, subject="ord_nobody")

    async def _park(self, key: str, body: bytes, *, subject: str, kind: str = "", version: str = "1") -> None:
        message_id = new_id("cmd")
        await self._put(key, body, message_id, subject, kind or key, version)
        self.parked.append(message_id)

    async def _misspelt(self) -> None:
        """Commands that can never succeed as they are: somebody has to mend their bodies."""
        for _ in range(3):
            order, message_id = await self._order(), new_id("cmd")
            (row,) = await self._rows("SELECT customer_id FROM orders WHERE order_id = $1", order)
            body = {"order_id": order, "position": 1, "recipient": row["customer_id"], "template": "order_plaecd"}
            await self._put("notification.sms", msgspec.json.encode(body), message_id, order, "notification.sms", "1")
            self.edited.append(message_id)

    async def _bad_facts(self) -> None:
        """Among the facts of orders under way: each group that follows them has to hold it, and the order's later facts."""
        async with open_producer(self._stage.settings.kafka_bootstrap, service="tests", timeout_ms=10_000) as producer:
            for _ in range(2):
                sent = await producer.send(ORDERS_TOPIC, await self._order(), b"\x00 no fact", {})
                assert await producer.settle([sent]) == [None]

    async def _repeats(self) -> None:
        """Charges of orders once more, under their own identity, whatever became of them meanwhile."""
        for row in await self._rows(_RECENT, self._stage.before.began):
            order, kind = row["order_id"], Command.PAYMENT_CHARGE
            body = msgspec.json.encode({"order_id": order, "position": 1})
            await self._put(kind, body, command_id(order, 1, kind), order, kind, "1")
            self.repeated += 1

    async def _kill(self) -> None:
        """Whoever it hits, with whatever it has in hand."""
        services = self._stage.services
        name = self._dice.choice(sorted(services.restarts.keys() - {"gateway"}))
        while (process := services.processes.get(name)) is None:  # noqa: ASYNC110  # killed a moment ago
            await asyncio.sleep(_LOOK_S)
        process.kill()
        self.killed.append(name)
        await process.wait()

    async def _order(self) -> str:
        async with asyncio.timeout(DURATION_S):
            while not (rows := await self._rows(_RECENT, self._stage.before.began)):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
        return str(self._dice.choice(rows)["order_id"])

    async def _rows(self, query: str, *values: object) -> list[Any]:
        async with self._one_at_a_time:
            return list(await self._stage.db.fetch(query, *values))

    async def _put(self, key: str, body: bytes, message_id: str, subject: str, kind: str, version: str) -> None:
        headers = {"cloudEvents_id": message_id, "cloudEvents_type": kind, "cloudEvents_subject": subject,
                   "cloudEvents_schemaversion": version}  # fmt: skip
        assert await put_by_hand(
            self._stage.settings, exchange=COMMANDS_EXCHANGE, routing_key=key, body=body, headers=headers, message_id=message_id
        )


class NightShift:
    """Somebody who decides about every letter, again and again, until nothing is open."""

    def __init__(self, stage: Stage, trouble: Trouble) -> None:
        self._stage, self._trouble = stage, trouble
        self._who = Caller("ops_clearing_up", "operator")
        self.refused: list[str] = []

    async def clear_up(self, patience_s: float, quiet: Callable[[], Awaitable[bool]]) -> bool:
        """False where patience ran out before everything was quiet and decided."""
        ends, looks = time.monotonic() + patience_s, 0
        async with open_gateway(self._stage.settings, connections=2) as self._gateway:
            while time.monotonic() < ends:
                letters = await self._open()
                await self._decide(letters)
                looks = looks + 1 if not letters and await quiet() else 0
                if looks == 3:  # in a row: what was between two places is in one of them by then
                    return True
                await asyncio.sleep(_LOOK_S)
        return False

    async def _open(self, **wanted: str) -> list[dict[str, Any]]:
        asked = urlencode({"state": "open", "limit": 100, **wanted})
        answer = await self._gateway.insist("GET", f"/v1/ops/dead-letters?{asked}", self._who)
        assert answer.ok, answer.body
        found: list[dict[str, Any]] = answer.json()["letters"]
        return found

    async def _decide(self, letters: list[dict[str, Any]]) -> None:
        mend = await self._named(self._trouble.edited) if letters else set()
        by_hand = await self._named(self._trouble.parked) if letters else set()
        groups = set()
        for letter in letters:
            path = f"/v1/ops/dead-letters/{letter['letter_id']}"
            if letter["letter_id"] in mend:
                await self._post(f"{path}/edit", {"reason": "misspelt", "patch": {"template": "order_placed"}})
            elif letter["letter_id"] in by_hand or letter["category"] == "poison":
                await self._post(f"{path}/discard", {"reason": "put in by hand, belongs to no order"})
            else:
                groups.add(letter["fingerprint"])
        for fingerprint in sorted(groups):
            await self._post(
                "/v1/ops/replays", {"filter": {"fingerprint": fingerprint, "state": "open"}, "reason": "it is over"}
            )

    async def _named(self, message_ids: list[str]) -> set[str]:
        return {letter["letter_id"] for each in message_ids for letter in await self._open(message_id=each)}

    async def _post(self, path: str, body: object) -> None:
        """A refusal is an answer: another got there first, or it was settled meanwhile."""
        answer = await self._gateway.insist("POST", path, self._who, body)
        if not answer.ok:
            self.refused.append(f"{answer.status} {path} {answer.body[:200]!r}")


def environment() -> dict[str, str]:
    """Without settings of another stack."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RUSHLINE_")}
