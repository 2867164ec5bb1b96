"""The promises, each as one pure check over the evidence. What fails names the first few that broke it."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from console.demo.evidence import NOWHERE, Evidence, Letter
from orders.names import FINAL

_NAMED: Final = 5
GROUPS: Final = ("fraud", "analytics", "notifications", "support")
_TOLD_AFTER: Final = frozenset({"payment_failed"})


class Invariant(msgspec.Struct, frozen=True):
    """One promise: what was compared with what, how many times, and who broke it."""

    ok: bool
    checked: str
    count: int
    broken: list[str]


def _verdict(checked: str, count: int, broken: Iterable[str]) -> Invariant:
    found = list(broken)
    named = found[:_NAMED] + ([f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else [])
    return Invariant(ok=not found, checked=checked, count=count, broken=named)


def accepted_orders_end(e: Evidence) -> Invariant:
    def broken() -> Iterable[str]:
        for order_id in e.placed:
            order = e.orders.get(order_id)
            if order is None:
                yield f"{order_id}: accepted, and not in the database"
            elif order.state not in FINAL:
                yield f"{order_id}: still {order.state}"
            elif order.pending:
                yield f"{order_id}: {', '.join(sorted(p['type'] for p in order.pending.values()))} not done"

    return _verdict("every order that a customer got a 201 for exists, is final and waits for nothing", len(e.placed), broken())


def no_order_unasked(e: Evidence) -> Invariant:
    unasked = [o for o in e.orders if o not in e.placed]
    checked = f"every order in the database was placed by a customer ({e.uncertain} never got an answer)"
    return _verdict(checked, len(e.orders), unasked if len(unasked) > e.uncertain else ())


def charged_at_most_once(e: Evidence) -> Invariant:
    broken = (
        f"{o}: {c.intents_captured} charges" for o, c in e.charged.items() if c.intents_captured > 1 or len(c.captures) > 1
    )
    return _verdict("the provider captured each order at most once", len(e.charged), broken)


def money_is_right(e: Evidence) -> Invariant:
    def broken() -> Iterable[str]:
        for order_id, order in e.orders.items():
            charge = e.charged.get(order_id)
            captured, refunded = (charge.captured, charge.refunded) if charge else (0, 0)
            due = order.total if order.state == "delivered" else 0
            if captured - refunded != due:
                yield f"{order_id}: {order.state}, the provider keeps {captured - refunded}, due is {due}"

    return _verdict(
        "captured minus refunded, at the provider: the total where delivered, else nothing", len(e.orders), broken()
    )


def books_agree(e: Evidence) -> Invariant:
    def broken() -> Iterable[str]:
        for order_id in e.orders.keys() | e.charged.keys():
            order, charge = e.orders.get(order_id), e.charged.get(order_id)
            ours = (order.captured, order.refunded) if order else (0, 0)
            theirs = (charge.captured, charge.refunded) if charge else (0, 0)
            if ours != theirs:
                yield f"{order_id}: ours {ours}, the provider's {theirs}"

    return _verdict("our books and the provider's ledger agree on each order", len(e.orders), broken())


def positions_gapless(e: Evidence) -> Invariant:
    def broken() -> Iterable[str]:
        for order_id, order in e.orders.items():
            log = e.logs.get(order_id)
            if log is None or not (log.first == 1 and log.last == log.events == log.distinct_positions == order.position):
                yield f"{order_id}: position {order.position}, its log {log}"
        yield from (f"{p.order_id}: its event stream skipped {p.gaps} times" for p in e.placed.values() if p.gaps)

    return _verdict("each order's events are 1, 2, 3 … up to its position, in the log and on the wire", len(e.logs), broken())


def chains_whole(e: Evidence) -> Invariant:
    return _verdict("each order's audit chain verifies from its first event to its head", len(e.logs), e.broken_chains)


def facts_applied_once(e: Evidence) -> Invariant:
    def broken() -> Iterable[str]:
        for group in GROUPS:
            reached = e.positions.get(group, {})
            for order_id, order in e.orders.items():
                if reached.get(order_id, 0) != order.position:
                    yield f"{group}: {order_id} at {reached.get(order_id, 0)} of {order.position}"
        for order_id, order in e.orders.items():
            log = e.audited.get(order_id)
            if log is None or not log.events == log.last == order.position:
                yield f"audit: {order_id} has {log.events if log else 0} of {order.position}"
        yield from (f"held: {held}" for held in e.held)

    checked = "every fact of every order reached every group, and the ledger, exactly once"
    return _verdict(checked, sum(order.position for order in e.orders.values()) * (len(GROUPS) + 1), broken())


def read_models_agree(e: Evidence) -> Invariant:
    def broken() -> Iterable[str]:
        for order_id, order in e.orders.items():
            seen = e.support.get(order_id)
            if seen != (order.state, order.captured, order.refunded):
                yield f"support: {order_id} is {seen}, not {(order.state, order.captured, order.refunded)}"
        orders = e.orders.values()
        expected = {
            "placed": len(orders),
            "completed": sum(o.state == "delivered" for o in orders),
            "captured": sum(o.captured for o in orders),
            "refunded": sum(o.refunded for o in orders),
        }
        yield from (f"analytics: {k} is {e.analytics.get(k)}, not {v}" for k, v in expected.items() if e.analytics.get(k) != v)

    return _verdict("support's and analytics' tables agree with the orders", len(e.orders) + 4, broken())


def outbox_empty(e: Evidence) -> Invariant:
    broken = [f"{e.outbox} rows wait"] * bool(e.outbox) + [f"{e.set_aside} rows are set aside"] * bool(e.set_aside)
    return _verdict("the outbox is empty and nothing was set aside", 2, broken)


def every_message_accounted_for(e: Evidence) -> Invariant:
    """Nothing lies in a queue; each message that entered is in exactly one place: done, discarded with a reason, or parked."""

    def broken() -> Iterable[str]:
        for queue, held in e.queues.items():
            if held != e.expected_in_queues.get(queue, 0):
                yield f"{queue} holds {held}, accounted for are {e.expected_in_queues.get(queue, 0)}"
        for message_id in e.deeds.parked:
            if (letters := sum(letter.message_id == message_id for letter in e.letters)) != 1:
                yield f"{message_id} was made unreadable, and became {letters} letters"
        yield from (
            f"{entry.message_id} ({entry.type}) entered, and is nowhere" for entry in e.entries if entry.place == NOWHERE
        )
        for letter in e.letters:
            if wrong := _not_in_one_place(letter):
                yield f"{letter.letter_id} ({letter.consumer}, {letter.reason}): {wrong}"

    checked = (
        f"queues, tiers and dead queues are empty; each of the {len(e.entries)} messages that entered is either done, discarded by "
        "somebody with a reason, or parked"
    )
    return _verdict(checked, len(e.queues) + len(e.entries) + len(e.letters), broken())


def operators_came_through(e: Evidence) -> Invariant:
    return _verdict("operators found what had failed, decided about it, and saw it end well", e.deeds.shifts, e.deeds.gave_up)


def _not_in_one_place(letter: Letter) -> str:
    match letter.state:
        case "replaying":
            return "sent again, and it never ended"
        case "open" if letter.done:
            return "parked, and done as well"
        case "resolved" | "discarded" if not (letter.resolution and letter.resolved_by):
            return f"{letter.state}, and nobody said why"
        case "resolved" if letter.resolution == "replayed" and letter.source == "command" and not letter.done:
            return "sent again, and no worker remembers it"
        case _:
            return ""


def restaurants_know(e: Evidence) -> Invariant:
    def broken() -> Iterable[str]:
        for order_id, order in e.orders.items():
            if order.state == "delivered" and order_id not in e.notified:
                yield f"{order_id}: delivered, and the restaurant never heard of it"
        for kitchen in e.kitchens:
            at = e.orders.get(kitchen.order_id)
            if at is None or kitchen.told_off or kitchen.refused:
                continue
            if at.restaurant_id != kitchen.restaurant_id:
                yield f"{at.order_id}: went to another restaurant, and {kitchen.restaurant_id} may still cook"
            elif at.state == "cancelled":
                yield f"{at.order_id}: cancelled, and the restaurant {'still cooks' if kitchen.accepted else 'waits'}"

    checked = "restaurants heard of each delivered order, and each that lost one without refusing it was told so"
    return _verdict(checked, len(e.orders) + len(e.kitchens), broken())


def customers_know(e: Evidence) -> Invariant:
    def broken() -> Iterable[str]:
        for order_id, order in e.orders.items():
            if (order.state in _TOLD_AFTER or order.refunded) and order_id not in e.messages:
                yield f"{order_id}: {order.state}, and the customer was never told"

    concerned = sum(1 for o in e.orders.values() if o.state in _TOLD_AFTER or o.refunded)
    return _verdict("customers whose payment failed or who got money back were told by SMS", concerned, broken())


def drivers_free(e: Evidence) -> Invariant:
    return _verdict("no driver is bound to an order that has ended", len(e.orders), e.stranded_drivers)


INVARIANTS: Final[dict[str, Callable[[Evidence], Invariant]]] = {
    check.__name__: check
    for check in (
        accepted_orders_end, no_order_unasked, charged_at_most_once, money_is_right, books_agree, positions_gapless,
        chains_whole, facts_applied_once, read_models_agree, outbox_empty, every_message_accounted_for, operators_came_through,
        restaurants_know, customers_know, drivers_free,
    )
}  # fmt: skip


def judge_all(evidence: Evidence) -> dict[str, Invariant]:
    """Every promise, by name."""
    return {name: check(evidence) for name, check in INVARIANTS.items()}
