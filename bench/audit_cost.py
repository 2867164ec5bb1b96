"""What an order's own transaction pays for its audit row: sealed, kept and sent, against the same change without it."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from adapters.postgres import Connection, connect
from adapters.settings import Settings
from bench.database import own_database
from bench.making import Figure, fresh_order, percentile
from orders import chain
from orders.decide import Cause, Change, Event, Wish, decide, system
from orders.facts import Actor
from orders.lifecycle import Action
from orders.names import Role
from orders.order import Order
from outbox.transition import apply, load, waits

DATABASE: Final = "rushline_audit_cost"
_ROUNDS: Final = 7
# The same door without the rows of the audit trail, found first by whoever looks there first.
_BARE: Final = """
CREATE SCHEMA bare;
DO $do$ BEGIN
    EXECUTE replace(replace(pg_get_functiondef('public.apply_transition'::regproc), 'public.apply_transition', 'bare.apply_transition'),
                    ', (e.audit_id, e.action, e.audit, ''audit.events'')', '');
END $do$
"""


async def audit_cost(settings: Settings, orders: int) -> list[Figure]:
    """Load, decide, write: a payment begins. In turn with the audit row and without it; medians of the rounds."""
    took: dict[bool, list[float]] = {True: [], False: []}
    async with own_database(settings, DATABASE) as own:
        dsn = own.migrate_url
        async with connect(dsn, service="bench") as full, connect(dsn, service="bench") as bare:
            await full.execute(_BARE)
            await bare.execute("SET search_path = bare, public")
            for audited in (True, False) * (_ROUNDS + 1):
                took[audited].append(await _round(full if audited else bare, settings, orders, audited=audited))
    with_it, without = (percentile(took[audited][1:], 50) / orders * 1e6 for audited in (True, False))
    return [
        Figure("audit: a change of an order, with its audit row", with_it, "µs", f"{orders} orders, median of {_ROUNDS}"),
        Figure("audit: the same without", without, "µs"),
        Figure("audit: its audit row costs", 100 * (with_it - without) / without, "%", "of the change without"),
    ]


async def _round(db: Connection, settings: Settings, orders: int, *, audited: bool) -> float:
    placed = [await _placed(db, settings) for _ in range(orders)]
    begin, wait = Wish(action=Action.BEGIN_PAYMENT), waits(settings)
    took = 0.0
    for order in placed:
        began = time.perf_counter()
        found, _ = await load(db, order.order_id)
        change = decide(found, begin, _because(system("bench"), order), datetime.now(UTC), wait)
        took += time.perf_counter() - began
        if not audited:
            took -= _sealing(change.events, found)
            change = _bare(change)
        began = time.perf_counter()
        await apply(db, change)
        took += time.perf_counter() - began
    return took


async def _placed(db: Connection, settings: Settings) -> Order:
    order = fresh_order()
    because = _because(Actor(Role.CUSTOMER, order.customer_id), order)
    return await apply(db, decide(order, Wish(action=Action.PLACE), because, datetime.now(UTC), waits(settings)))


def _sealing(events: Sequence[Event], order: Order) -> float:
    bodies = [msgspec.json.decode(event.audit) for event in events]
    began = time.perf_counter()
    for body in bodies:
        chain.seal(body, order.chain_head)
    return time.perf_counter() - began


def _bare(change: Change) -> Change:
    return msgspec.structs.replace(change, events=tuple(msgspec.structs.replace(event, audit=b"") for event in change.events))


def _because(actor: Actor, order: Order) -> Cause:
    return Cause(id="bench", actor=actor, service="bench", traceparent=order.traceparent)
