"""The only place that collects the evidence: asks every part of the outside world, and our database, once all is quiet."""

from collections import defaultdict
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import msgspec

from adapters.postgres import Connection
from adapters.queues import queue_depths
from adapters.settings import Settings
from console.demo import sql
from console.demo.entries import entered, facts_entered
from console.demo.evidence import Alarm, Charged, Deeds, Evidence, Kitchen, Letter, Log, Order, Placed
from orders import chain
from orders.names import DEAD_LETTERS, POISON
from outbox.status import lane_statuses
from simulation.world import World

_TAKEN_IN: Final = (DEAD_LETTERS, POISON)  # each message in them becomes a letter


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What was there before the demonstration began, and is not of its making."""

    began: datetime
    queues: dict[str, int]
    set_aside: int
    analytics: dict[str, int]


async def look_before(db: Connection, settings: Settings) -> Before:
    """The state of things before anything is done."""
    return Before(
        began=datetime.now(UTC),
        queues=await queue_depths(settings),
        set_aside=sum(lane.set_aside for lane in await lane_statuses(db)),
        analytics=await _analytics(db),
    )


async def gather(db: Connection, settings: Settings, world: World, before: Before, deeds: Deeds) -> Evidence:
    """Everything that the invariants and targets ask for."""
    customers = await world.customers(orders=True)
    orders = await _orders(db, before.began)
    ids = list(orders)
    lanes = await lane_statuses(db)
    tickets = (await world.ask("restaurants", "/_sim/restaurants"))["tickets"]
    queues = await queue_depths(settings)
    return Evidence(
        began=before.began.timestamp(),
        placed=_placed(customers["orders"]),
        uncertain=sum(record["status"] in ("sent", "given_up") for record in customers["orders"]),
        orders=orders,
        logs={row["order_id"]: _log(row) for row in await db.fetch(sql.EVENTS, ids)},
        broken_chains=await _broken_chains(db, ids),
        charged=await _charged(world, orders),
        notified=_notified(tickets),
        kitchens=[_kitchen(t) for t in tickets if t["notified_at"]],
        accepted=_accepted(tickets),
        assigned=await _assigned(world),
        messages=await _messages(world, orders),
        positions=await _positions(db, ids),
        audited={row["order_id"]: Log(row["events"], 1, row["last"], row["events"]) for row in await db.fetch(sql.LEDGER, ids)},
        support={row["order_id"]: (row["state"], row["captured"], row["refunded"]) for row in await db.fetch(sql.SUPPORT, ids)},
        analytics={name: value - before.analytics[name] for name, value in (await _analytics(db)).items()},
        held=[f"{row['group_name']}: {row['order_id']} ({row['kind']})" for row in await db.fetch(sql.HELD, before.began)],
        stranded_drivers=[row["driver_id"] for row in await db.fetch(sql.STRANDED, before.began)],
        outbox=sum(lane.depth for lane in lanes),
        set_aside=sum(lane.set_aside for lane in lanes) - before.set_aside,
        queues=queues,
        expected_in_queues={name: 0 if name in _TAKEN_IN else before.queues.get(name, 0) for name in queues},
        letters=[msgspec.convert(dict(row), Letter) for row in await db.fetch(sql.LETTERS, before.began)],
        alerts=[msgspec.convert(dict(row), Alarm) for row in await db.fetch(sql.ALERTS, before.began)],
        entries=await entered(db),
        facts=await facts_entered(db),
        deeds=deeds,
    )


async def _orders(db: Connection, began: datetime) -> dict[str, Order]:
    return {row["order_id"]: msgspec.convert(dict(row), Order) for row in await db.fetch(sql.ORDERS, began)}


def _placed(records: list[dict[str, Any]]) -> dict[str, Placed]:
    return {
        record["order_id"]: Placed(
            order_id=record["order_id"],
            plot=record["plot"],
            total=record["total"],
            sent_at=_seconds(record["sent_at"]),
            latency_ms=record["latency_ms"],
            attempts=record["attempts"],
            gaps=(record["streamed"] or {}).get("gaps", 0),
        )
        for record in records
        if record["order_id"]
    }


def _log(row: Any) -> Log:
    return Log(row["events"], row["first"], row["last"], row["distinct_positions"])


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _first(times: Any) -> float:
    return min(map(_seconds, times))


def _notified(tickets: list[dict[str, Any]]) -> dict[str, float]:
    """When the first of an order's restaurants heard of it."""
    times: dict[str, list[str]] = defaultdict(list)
    for ticket in tickets:
        times[ticket["order_id"]] += [notified["at"] for notified in ticket["notified_at"]]
    return {order_id: _first(heard) for order_id, heard in times.items() if heard}


def _kitchen(ticket: dict[str, Any]) -> Kitchen:
    answer = ticket["answer"] or {"kind": "", "status": 0}
    return Kitchen(
        order_id=ticket["order_id"],
        restaurant_id=ticket["restaurant_id"],
        accepted=answer["kind"] == "accept" and answer["status"] == HTTPStatus.OK,
        refused=answer["kind"] == "reject",
        told_off=ticket["cancelled_at"] is not None,
    )


def _accepted(tickets: list[dict[str, Any]]) -> dict[str, float]:
    answers = ((t["order_id"], t["answer"]) for t in tickets if t["answer"])
    return {order: _seconds(a["at"]) for order, a in answers if a["kind"] == "accept" and a["status"] == HTTPStatus.OK}


async def _broken_chains(db: Connection, ids: list[str]) -> list[str]:
    chains: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in await db.fetch(sql.AUDITS, ids):
        chains[row["order_id"]].append(msgspec.json.decode(row["audit"]))
    return [f"{order}: breaks at {at}" for order, events in chains.items() if (at := chain.first_broken(events)) is not None]


async def _charged(world: World, orders: dict[str, Order]) -> dict[str, Charged]:
    ledger = await world.ask("provider_control", "/_sim/ledger")
    intents: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in ledger["intents"]:
        intents[row["order_id"]].append(row)
    return {
        order_id: Charged(
            captured=sum(row["captured_minor"] for row in rows),
            refunded=sum(row["refunded_minor"] for row in rows),
            captures=tuple(sorted(each["at"] for row in rows for each in row["captures"])),
            intents_captured=sum(row["captured_minor"] > 0 for row in rows),
            faults=tuple(fault for row in rows for fault in row["faults"]),
        )
        for order_id, rows in intents.items()
        if order_id in orders
    }


async def _assigned(world: World) -> dict[str, float]:
    first: dict[str, float] = {}
    for trip in (await world.ask("drivers", "/_sim/drivers"))["trips"]:
        at = _seconds(trip["pushed_at"])
        first[trip["order_id"]] = min(at, first.get(trip["order_id"], at))
    return first


async def _messages(world: World, orders: dict[str, Order]) -> dict[str, set[str]]:
    """SMS by order: the text names the order by the end of its id, and goes to its customer."""
    texts: dict[str, list[str]] = defaultdict(list)
    for sms in (await world.ask("messaging", "/_sim/messages"))["sms"]:
        texts[sms["to"]].append(sms["body"])
    found = {o.order_id: {text for text in texts.get(o.customer_id, ()) if o.order_id[-6:] in text} for o in orders.values()}
    return {order_id: bodies for order_id, bodies in found.items() if bodies}


async def _positions(db: Connection, ids: list[str]) -> dict[str, dict[str, int]]:
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for row in await db.fetch(sql.POSITIONS, ids):
        groups[row["group_name"]][row["order_id"]] = row["position"]
    return dict(groups)


async def _analytics(db: Connection) -> dict[str, int]:
    (row,) = await db.fetch(sql.ANALYTICS)
    return dict(row)


def fact_counts(evidence: Evidence) -> dict[str, int]:
    """Orders by final state, and how many facts they made."""
    states: dict[str, int] = defaultdict(int)
    for order in evidence.orders.values():
        states[order.state] += 1
    return {**dict(sorted(states.items())), "facts": sum(order.position for order in evidence.orders.values())}
