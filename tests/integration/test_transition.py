"""The one door to changing an order, on a real database: all of a change is written, or none of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from adapters.postgres import Pool
from adapters.settings import Settings
from orders import chain
from orders.decide import Wish, decide
from orders.errors import AlreadyDone, LostRace, NotAllowed, NotFound
from orders.ids import new_id
from orders.lifecycle import Action, Deadline
from orders.names import FINAL, Money, Role, State
from orders.order import Order
from outbox import sql
from outbox.transition import DriverTaken, apply, finish, load, move, waits
from tests.making import DRIVER, cause_of, change_of, empty, order_in, placed, unplaced, wait, walked, wish_of

TABLES = ("orders", "order_events", "inbox", "outbox", "drivers")


@pytest.fixture(autouse=True)
async def _fresh(stack: Settings) -> None:
    await empty(stack)


async def _everything(pool: Pool) -> dict[str, list[Any]]:
    """Every row of every table that a change may touch."""
    return {name: sorted(repr(row) for row in await pool.fetch(f"SELECT * FROM {name}")) for name in TABLES}  # noqa: S608


async def test_a_change_is_read_back_as_it_was_decided(pool: Pool) -> None:
    for state in State:
        order = await walked(pool, state)
        assert await load(pool, order.order_id) == (order, False)


async def test_a_change_writes_order_events_outbox_and_inbox_together(pool: Pool) -> None:
    order = await placed(pool)
    charge = next(iter(order.pending))
    change = change_of(Action.BEGIN_PAYMENT, order)
    await apply(pool, change, done_command=charge)
    events = await pool.fetch("SELECT * FROM order_events ORDER BY position")
    rows = await pool.fetch("SELECT * FROM outbox ORDER BY id")
    assert [(e["position"], e["type"]) for e in events] == [(1, "order.placed"), (2, "payment.processing")]
    assert [(r["broker"], r["destination"], r["position"], r["type"]) for r in rows] == [
        ("kafka", "orders.events", 1, "order.placed"),
        ("kafka", "audit.events", 1, "order.placed"),
        ("rabbitmq", "payment.charge", 1, "payment.charge"),
        ("kafka", "orders.events", 2, "payment.processing"),
        ("kafka", "audit.events", 2, "payment.initiated"),
    ]
    assert (await load(pool, order.order_id, charge))[1]
    assert chain.first_broken([msgspec.json.decode(e["audit"]) for e in events]) is None


async def test_a_lost_race_raises_and_writes_nothing_not_even_that_the_command_is_done(pool: Pool) -> None:
    order = await walked(pool, State.RESTAURANT_NOTIFIED)
    won, lost = change_of(Action.ACCEPT, order), change_of(Action.CANCEL, order)
    await apply(pool, won)
    before = await _everything(pool)
    with pytest.raises(LostRace):
        await apply(pool, lost, done_command="cmd_lost")
    assert await _everything(pool) == before


async def test_an_order_is_inserted_once(pool: Pool) -> None:
    change = change_of(Action.PLACE, unplaced())
    await apply(pool, change)
    before = await _everything(pool)
    with pytest.raises(LostRace):
        await apply(pool, change)
    assert await _everything(pool) == before


async def test_fifty_moves_at_once_give_gapless_positions_and_a_whole_chain(pool: Pool) -> None:
    order = await walked(pool, State.RESTAURANT_ACCEPTED)
    wish = Wish(action=Action.INTERVENE, data={"note": "called"})
    cause = cause_of(Action.INTERVENE, order)

    async def until_it_is_granted() -> Order:
        while True:
            try:
                return await move(pool, order.order_id, wish, cause, wait)
            except LostRace:
                continue

    moved = await asyncio.gather(*(until_it_is_granted() for _ in range(50)))
    assert sorted(m.position for m in moved) == list(range(order.position + 1, order.position + 51))
    events = await pool.fetch("SELECT position, audit FROM order_events ORDER BY position")
    assert [e["position"] for e in events] == list(range(1, order.position + 51))
    assert chain.first_broken([msgspec.json.decode(e["audit"]) for e in events]) is None
    assert await pool.fetchval("SELECT count(DISTINCT event_id) FROM outbox WHERE broker = 'kafka'") == 2 * len(events)


async def test_a_wish_that_depends_on_the_order_is_asked_again_after_a_lost_race(pool: Pool) -> None:
    order = await walked(pool, State.RESTAURANT_NOTIFIED)
    seen: list[int] = []

    def wish(current: Order) -> Wish:
        seen.append(current.position)
        return Wish(action=Action.INTERVENE, data={"note": str(current.position)})

    cause = cause_of(Action.INTERVENE, order)
    await asyncio.gather(*(move(pool, order.order_id, wish, cause, wait) for _ in range(3)))
    notes = await pool.fetch(
        "SELECT position, convert_from(fact, 'UTF8')::jsonb AS fact FROM order_events WHERE type = 'support.intervention'"
    )
    assert [row["fact"]["data"]["note"] for row in notes] == [str(row["position"] - 1) for row in notes]
    assert len(seen) >= 3


async def test_a_command_that_was_done_meanwhile_changes_nothing(pool: Pool) -> None:
    order = await walked(pool, State.PAYMENT_PROCESSING)
    charge = next(iter(order.pending))
    await finish(pool, order.order_id, charge, datetime.now(UTC))
    order, done = await load(pool, order.order_id, charge)
    assert done
    before = await _everything(pool)
    with pytest.raises(AlreadyDone):
        await apply(pool, change_of(Action.CONFIRM_PAYMENT, order), done_command=charge)
    assert await _everything(pool) == before


@pytest.mark.parametrize("state", sorted(FINAL))
async def test_a_final_state_cannot_be_left_even_by_a_change_that_skipped_the_table(pool: Pool, state: State) -> None:
    order = await walked(pool, state)
    forged = decide(order, Wish(action=Action.INTERVENE), cause_of(Action.INTERVENE, order), order.updated_at, wait)
    forged = msgspec.structs.replace(forged, order=msgspec.structs.replace(forged.order, state=State.PICKED_UP))
    before = await _everything(pool)
    with pytest.raises(LostRace):
        await apply(pool, forged)
    assert await _everything(pool) == before
    with pytest.raises(NotAllowed):
        await move(pool, order.order_id, Wish(action=Action.DELIVER), cause_of(Action.DELIVER, order_in(State.PICKED_UP)), wait)


async def test_an_order_that_does_not_exist_is_not_found(pool: Pool) -> None:
    with pytest.raises(NotFound):
        await load(pool, new_id("ord"))


async def _driver(pool: Pool, reserved_for: str | None, status: str = "available") -> None:
    await pool.execute(
        "INSERT INTO drivers (driver_id, city, status, latitude, longitude, order_id, reserved_for, reserved_until) "
        "VALUES ($1, 'Utrecht', $2, 52, 5, $3, $4, now() + interval '1 minute')",
        DRIVER, status, "ord_other" if status == "busy" else None, reserved_for,
    )  # fmt: skip


@pytest.mark.parametrize(("reserved_for", "status"), [(None, "available"), ("ord_other", "available"), (None, "busy")])
async def test_a_driver_who_is_no_longer_reserved_for_the_order_is_not_taken(
    pool: Pool, reserved_for: str | None, status: str
) -> None:
    order = await walked(pool, State.RESTAURANT_ACCEPTED)
    await _driver(pool, reserved_for, status)
    before = await _everything(pool)
    wish = msgspec.structs.replace(wish_of(Action.ASSIGN_DRIVER, order), take_driver=DRIVER)
    with pytest.raises(DriverTaken):
        await apply(
            pool, decide(order, wish, cause_of(Action.ASSIGN_DRIVER, order), order.updated_at, wait), done_command="cmd_x"
        )
    assert await _everything(pool) == before


async def test_a_reserved_driver_is_taken_with_the_order_and_free_again_at_its_end(pool: Pool) -> None:
    order = await walked(pool, State.RESTAURANT_ACCEPTED)
    await _driver(pool, order.order_id)
    wish = msgspec.structs.replace(wish_of(Action.ASSIGN_DRIVER, order), take_driver=DRIVER)
    order = await apply(pool, decide(order, wish, cause_of(Action.ASSIGN_DRIVER, order), order.updated_at, wait))
    query = "SELECT status, order_id, reserved_for FROM drivers"
    assert tuple(await pool.fetchrow(query) or ()) == ("busy", order.order_id, None)
    await apply(pool, change_of(Action.CANCEL, order))
    assert tuple(await pool.fetchrow(query) or ()) == ("available", None, None)


async def test_a_finished_command_is_remembered_and_no_longer_waited_for(pool: Pool) -> None:
    order = await walked(pool, State.CANCELLED)
    refund, other = sorted(order.pending, key=lambda key: order.pending[key].type)
    await finish(pool, order.order_id, refund, datetime.now(UTC))
    after, done = await load(pool, order.order_id, refund)
    assert done
    assert (set(after.pending), after.deadline) == ({other}, Deadline.STUCK)
    await finish(pool, order.order_id, other, datetime.now(UTC))
    await finish(pool, order.order_id, other, datetime.now(UTC))
    after, done = await load(pool, order.order_id, other)
    assert done
    assert (after.pending, after.deadline, after.deadline_at) == ({}, None, None)
    assert after.position == order.position


async def test_finishing_the_last_command_keeps_a_deadline_that_is_not_about_commands(pool: Pool) -> None:
    order = await walked(pool, State.RESTAURANT_ACCEPTED)
    await finish(pool, order.order_id, next(iter(order.pending)), datetime.now(UTC))
    after, _ = await load(pool, order.order_id)
    assert (after.pending, after.deadline) == ({}, Deadline.DRIVER_SEARCH)


async def test_the_payment_that_is_remembered_is_not_overwritten_by_an_older_copy(pool: Pool) -> None:
    order = await walked(pool, State.PAYMENT_PROCESSING)
    await pool.execute(sql.REMEMBER_PAYMENT, order.order_id, "pi_1", 3)
    await pool.execute(sql.REMEMBER_PAYMENT, order.order_id, "pi_2", 1)
    await apply(pool, change_of(Action.CONFIRM_PAYMENT, order))  # decided upon before the intent was there
    after, _ = await load(pool, order.order_id)
    assert (after.payment_intent_id, after.payment_attempt, after.money) == ("pi_1", 3, Money.CAPTURED)


async def test_todays_events_are_in_todays_partition(pool: Pool) -> None:
    await placed(pool)
    today = datetime.now(UTC).strftime("order_events_%Y%m%d")
    assert await pool.fetchval("SELECT tableoid::regclass::text FROM order_events") == today


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE order_events SET fact = ''",
        "DELETE FROM order_events",
        "TRUNCATE order_events",
        "DELETE FROM orders",
        "CREATE TABLE mine (id integer)",
        "DROP TABLE inbox",
        "ALTER TABLE orders ADD COLUMN mine text",
        "UPDATE outbox SET body = ''",
    ],
)
async def test_the_application_may_not(pool: Pool, statement: str) -> None:
    await placed(pool)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute(statement)


async def test_the_database_repeats_the_final_states(stack: Settings, pool: Pool) -> None:
    order = await walked(pool, State.DELIVERED)
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute("UPDATE orders SET deadline = 'pick_up', deadline_at = now() WHERE order_id = $1", order.order_id)


def test_business_time_is_compressed_by_one_setting(stack: Settings) -> None:
    real, fast = (waits(msgspec.structs.replace(stack, time_scale=scale)) for scale in (1.0, 60.0))
    assert real(Deadline.RESTAURANT_ANSWER) == timedelta(minutes=5)
    for kind in Deadline:
        assert fast(kind) * 60 == real(kind)


def test_the_roles_of_the_table_are_those_of_tokens_and_the_system() -> None:
    assert {role.value for role in Role} == {"customer", "restaurant", "driver", "support", "operator", "auditor", "system"}
