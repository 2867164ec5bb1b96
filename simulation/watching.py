"""The only place where a customer looks at an order after placing it: to call it off, to answer, to follow its events."""

import asyncio
import time
from random import Random
from typing import Any, Final

import msgspec

from simulation.client import UNCERTAIN, Caller, Gateway
from simulation.records import Book, Cancelled, Record, Resolved, Streamed
from simulation.serving import now

STAGES: Final = (
    "placed", "payment_processing", "payment_confirmed", "restaurant_notified", "restaurant_accepted",
    "driver_assigned", "picked_up", "delivered",
)  # fmt: skip
FINAL: Final = frozenset({"delivered", "payment_failed", "cancelled"})
LAST_EVENTS: Final = frozenset({"order.completed", "payment.failed", "order.cancelled"})
CANCEL_AT: Final = "cancel_at_"
CHOICES: Final = ("substitute", "alternative", "cancel", "silence")
_FIRST_LOOK_S: Final = 0.04
_LAST_LOOK_S: Final = 0.5
_MOST_CONNECTIONS: Final = 30
_STREAM_PAUSE_S: Final = 0.5


class Watcher:
    """A customer with the order's page open."""

    def __init__(self, gateway: Gateway, book: Book, patience_s: float) -> None:
        self._gateway, self._book, self._patience_s = gateway, book, patience_s

    async def state_of(self, record: Record) -> dict[str, Any]:
        """The order as its customer may see it; nothing where there is no answer."""
        answer = await self._gateway.call("GET", f"/v1/orders/{record.order_id}", Caller(record.customer_id, "customer"))
        order = answer.json() if answer.ok else {}
        if (state := order.get("status")) in FINAL and record.outcome != state:
            record.ends(str(state))
            self._book.write(record)
        return order

    async def cancel_at(self, record: Record, stage: str) -> None:
        """Look until the order is at that stage or further, then call it off. Too late is an answer, too."""
        state = "placed"
        if stage != state:
            state = await self._wait_for(record, STAGES.index(stage))
        if state in FINAL or not state:
            return
        answer = await self._gateway.insist(
            "POST", f"/v1/orders/{record.order_id}/cancel", Caller(record.customer_id, "customer"),
            {"reason": "changed_my_mind"}, patience_s=self._patience_s,
        )  # fmt: skip
        record.cancelled = Cancelled(now(), state, answer.status)
        self._book.counts[f"cancel_at_{state}_{answer.status}"] += 1
        if answer.ok:
            record.ends("cancelled")
        self._book.write(record)

    async def _wait_for(self, record: Record, rank: int) -> str:
        ends, pause = time.monotonic() + self._patience_s, _FIRST_LOOK_S
        while time.monotonic() < ends:
            state = str((await self.state_of(record)).get("status", ""))
            if state in FINAL or (state in STAGES and STAGES.index(state) >= rank):  # a rejected one may go on elsewhere
                return state
            await asyncio.sleep(pause)
            pause = min(1.25 * pause, _LAST_LOOK_S)
        return ""

    async def resolve(self, record: Record, dice: Random, thinking_s: float) -> None:
        """Answer to an unavailable item: something else instead, another restaurant, or nothing at all."""
        await asyncio.sleep(thinking_s)
        order = await self.state_of(record)
        if order.get("status") != "restaurant_rejected":
            return
        choice = dice.choices(CHOICES, (25, 35, 30, 10))[0]
        status = 0 if choice == "silence" else await self._answer(record, order, choice)
        if choice in ("substitute", "alternative") and 400 <= status < 500:
            self._book.counts[f"resolution_{choice}_{status}"] += 1
            choice, status = "cancel", await self._answer(record, order, "cancel")  # there is nothing else to be had
        record.resolved = Resolved(now(), choice, status)
        self._book.counts[f"resolution_{choice}_{status}"] += 1
        self._book.write(record)

    async def _answer(self, record: Record, order: dict[str, Any], choice: str) -> int:
        caller = Caller(record.customer_id, "customer")
        body: dict[str, Any] = {"choice": choice}
        if choice == "substitute":
            menu = await self._gateway.call("GET", f"/v1/restaurants/{order['restaurant_id']}/menu", caller)
            body["substitutes"] = substitutes(order, menu.json().get("items", []))
        path = f"/v1/orders/{record.order_id}/resolution"
        return (await self._gateway.insist("POST", path, caller, body, patience_s=self._patience_s)).status

    async def follow(self, record: Record, lasts_s: float) -> None:
        """Follow the order's events to the end; where the connection breaks, go on after the last id."""
        seen = record.streamed = Streamed()
        ends = time.monotonic() + lasts_s
        while time.monotonic() < ends and seen.connections < _MOST_CONNECTIONS:
            seen.connections += 1
            try:
                async with asyncio.timeout(ends - time.monotonic()):
                    over = await self._read(record, seen)
            except UNCERTAIN:
                over = False
            if over:
                break
            await asyncio.sleep(_STREAM_PAUSE_S)
        self._book.counts["streams_with_gaps" if seen.gaps else "streams_gapless"] += 1
        self._book.write(record)

    async def _read(self, record: Record, seen: Streamed) -> bool:
        """Read what one connection brings. True where there is nothing more to come."""
        path = f"/v1/orders/{record.order_id}/events"
        last = str(seen.last_id) if seen.last_id else ""
        async with self._gateway.stream(path, Caller(record.customer_id, "customer"), last) as answer:
            if answer.status != 200:
                return answer.status == 204
            event = Event()
            async for line in answer.content:
                if event.take(line.decode().rstrip("\r\n")):
                    note(seen, event)
                    if event.kind in LAST_EVENTS:
                        return True
                    event = Event()
        return False


class Event(msgspec.Struct):
    """One server-sent event, line by line."""

    id: int = 0
    kind: str = ""
    data: str = ""

    def take(self, line: str) -> bool:
        """Take in a line. True where it ends an event that has an id."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and value.isdecimal():
            self.id = int(value)
        elif name == "event":
            self.kind = value
        elif name == "data":
            self.data += value
        return not line and self.id > 0


def note(seen: Streamed, event: Event) -> None:
    """Positions are gapless: each id is the one after the last."""
    if event.id != seen.last_id + 1:
        seen.gaps += 1
    seen.last_id = max(seen.last_id, event.id)
    if not event.kind:
        data = msgspec.json.decode(event.data or "{}", type=dict[str, Any])
        event.kind = str(data.get("type", ""))
    seen.events.append(event.kind)


def substitutes(order: dict[str, Any], menu: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each missing item the dearest one on the menu that costs no more; nothing where there is none."""
    missing = set((order.get("decision") or {}).get("unavailable_items", ()))
    chosen = []
    for line in order.get("items", ()):
        if line["item_id"] not in missing:
            continue
        most = line["unit_price"]["amount_minor"]
        fits = [i for i in menu if i["available"] and i["item_id"] not in missing and i["unit_price"]["amount_minor"] <= most]
        if fits:
            best = max(fits, key=lambda i: (i["unit_price"]["amount_minor"], i["item_id"]))
            chosen.append({"item_id": best["item_id"], "quantity": line["quantity"]})
    return chosen
