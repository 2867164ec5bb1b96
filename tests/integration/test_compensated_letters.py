"""A failure of an order that its compensation answers is a letter, resolved, in the transaction that answers it."""

from datetime import UTC, datetime

import pytest

from adapters.postgres import Pool
from adapters.settings import Settings
from orders.decide import Change, Wish, decide
from orders.errors import LostRace
from orders.lifecycle import Action
from orders.names import State
from orders.order import Order
from outbox.transition import apply, move, waits
from tests.making import cause_of, change_of, empty, wait, walked, wish_of

FAILING = [
    (Action.FAIL_PAYMENT, State.PAYMENT_PROCESSING, "payment_declined", "payment_declined", "payment.failed"),
    (Action.FAIL_PAYMENT, State.PAYMENT_PROCESSING, "insufficient_funds", "insufficient_funds", "payment.failed"),
    (Action.FAIL_PAYMENT, State.PAYMENT_PROCESSING, "payment_fraud", "payment_fraud", "payment.failed"),
    (Action.GIVE_UP_PAYMENT, State.PAYMENT_PROCESSING, "payment_timeout", "payment_timeout", "payment.failed"),
    (Action.REJECT, State.RESTAURANT_NOTIFIED, "too_busy", "restaurant_rejected", "restaurant.rejected"),
    (Action.REJECT, State.RESTAURANT_NOTIFIED, "closing_time", "restaurant_closed", "restaurant.rejected"),
    (Action.REJECT_ITEMS, State.RESTAURANT_NOTIFIED, "sold_out", "item_unavailable", "restaurant.rejected"),
    (Action.GIVE_UP_RESTAURANT, State.RESTAURANT_NOTIFIED, "restaurant_timeout", "restaurant_timeout", "restaurant.rejected"),
    (Action.RELEASE_DRIVER, State.DRIVER_ASSIGNED, "no_show", "driver_no_show", "driver.released"),
    (Action.CANCEL, State.RESTAURANT_ACCEPTED, "no_driver", "driver_unavailable", "order.cancelled"),
    (Action.CANCEL_FOR_FRAUD, State.RESTAURANT_ACCEPTED, "fraud", "payment_fraud", "fraud.detected"),
]


@pytest.fixture(autouse=True)
async def _fresh(stack: Settings, pool: Pool) -> None:
    await empty(stack)


def _change(action: Action, order: Order, reason: str) -> Change:
    wish = wish_of(action, order)
    wish = Wish(action=action, reason=reason, data=wish.data, changes=wish.changes, free_driver=wish.free_driver)
    return decide(order, wish, cause_of(action, order), datetime.now(UTC), wait)


async def _letters(pool: Pool, order: Order) -> int:
    found: int = await pool.fetchval("SELECT count(*) FROM dead_letters WHERE order_id = $1", order.order_id)
    return found


@pytest.mark.parametrize(("action", "state", "reason", "failure", "fact"), FAILING)
async def test_a_failure_that_is_answered_is_a_resolved_letter_with_its_fact(
    pool: Pool, action: Action, state: State, reason: str, failure: str, fact: str
) -> None:
    order = await walked(pool, state)
    change = _change(action, order, reason)
    await apply(pool, change)
    (row,) = await pool.fetch("SELECT * FROM dead_letters WHERE order_id = $1", order.order_id)
    assert (row["failure_type"], row["type"], row["message"]) == (failure, fact, reason)
    assert (row["source"], row["consumer"], row["position"]) == ("order", "orders", order.position + 1)
    assert (row["message_id"], bytes(row["body"])) == (change.events[0].event_id, change.events[0].fact)
    assert (row["state"], row["resolved"], row["resolution"], row["resolved_by"]) == ("resolved", True, "compensated", "tests")
    assert row["resolved_at"] == change.order.updated_at
    group = await pool.fetchrow("SELECT * FROM letter_groups WHERE fingerprint = $1", row["fingerprint"])
    assert group is not None
    assert (group["failure_type"], group["open"]) == (failure, 0)


@pytest.mark.parametrize(
    ("action", "state", "reason"),
    [
        (Action.CANCEL, State.RESTAURANT_ACCEPTED, "customer_request"),
        (Action.RELEASE_DRIVER, State.DRIVER_ASSIGNED, "flat tyre"),
    ],
)
async def test_what_somebody_wanted_is_no_failure(pool: Pool, action: Action, state: State, reason: str) -> None:
    order = await walked(pool, state)
    await apply(pool, _change(action, order, reason))
    assert await _letters(pool, order) == 0


async def test_an_order_that_goes_well_writes_no_letter(pool: Pool) -> None:
    assert await _letters(pool, await walked(pool, State.DELIVERED)) == 0


async def test_a_lost_race_leaves_no_letter_and_a_letter_never_comes_without_its_change(pool: Pool) -> None:
    order = await walked(pool, State.RESTAURANT_NOTIFIED)
    lost = _change(Action.REJECT, order, "too_busy")
    await apply(pool, change_of(Action.ACCEPT, order))
    with pytest.raises(LostRace):
        await apply(pool, lost)
    assert await _letters(pool, order) == 0


async def test_each_failure_of_an_order_is_a_letter_of_its_own(pool: Pool, stack: Settings) -> None:
    order = await walked(pool, State.RESTAURANT_NOTIFIED)
    for action in (Action.REJECT, Action.REROUTE, Action.GIVE_UP_RESTAURANT, Action.REROUTE, Action.REJECT):
        wish, cause = wish_of(action, order), cause_of(action, order)
        order = await move(pool, order.order_id, wish, cause, waits(stack))
    assert await _letters(pool, order) == 3
