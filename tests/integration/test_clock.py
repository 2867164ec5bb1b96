"""The clock on a real database: what is due becomes a command, with the same identity however often it is due."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from adapters.postgres import Pool, connect
from adapters.settings import Settings
from orders.commands import OrderDeadline, read_command
from orders.errors import NotFound
from orders.lifecycle import Deadline
from orders.names import State
from outbox.clock import Clock
from outbox.transition import finish, load
from tests.making import empty, eventually, placed, quick, walked
from workers.handlers.order_deadline import order_deadline
from workers.outcome import Done

LATER = timedelta(days=1)


@pytest.fixture
async def settings(stack: Settings) -> Settings:
    await empty(stack)
    return quick(stack)


async def _commands(pool: Pool) -> list[tuple[str, str]]:
    """Type and id of each command in the outbox since it was last looked at; the outbox is emptied, as by a relay."""
    rows = await pool.fetch("SELECT type, event_id FROM outbox WHERE broker = 'rabbitmq' ORDER BY id")
    await pool.execute("DELETE FROM outbox")
    return [(row["type"], row["event_id"]) for row in rows]


async def test_a_deadline_that_ran_out_becomes_one_command_with_the_same_identity_at_each_firing(
    settings: Settings, pool: Pool
) -> None:
    order = await walked(pool, State.RESTAURANT_NOTIFIED)
    await _commands(pool)
    clock, now = Clock(pool, settings), datetime.now(UTC)
    assert await clock.step(now) == 0
    assert await clock.step(now + LATER) == 1
    (record,) = await pool.fetch("SELECT * FROM outbox")
    kind, body = read_command(record["type"], record["schema_version"], record["body"])
    assert (kind.value, body.position, body.order_id) == ("order.deadline", order.position, order.order_id)
    assert msgspec.to_builtins(body)["kind"] == "restaurant_answer"
    assert (record["destination"], record["priority"]) == ("order.deadline", 1)
    first = await _commands(pool)
    assert await clock.step(now + LATER) == 0  # its wait has begun again
    assert await clock.step(now + 2 * LATER) == 1
    assert await _commands(pool) == first


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.RESTAURANT_NOTIFIED, Deadline.RESTAURANT_ANSWER),
        (State.RESTAURANT_ACCEPTED, Deadline.DRIVER_SEARCH),
        (State.DRIVER_ASSIGNED, Deadline.PICK_UP),
        (State.PICKED_UP, Deadline.DELIVERY),
    ],
)
async def test_each_wait_of_an_order_runs_out_by_its_own_name(
    settings: Settings, pool: Pool, state: State, kind: Deadline
) -> None:
    order = await walked(pool, state)
    assert order.deadline is kind
    await _commands(pool)
    await Clock(pool, settings).step(datetime.now(UTC) + LATER)
    body = await pool.fetchval("SELECT body FROM outbox WHERE type = 'order.deadline'")
    assert msgspec.json.decode(body)["kind"] == kind.value


async def test_a_deadline_of_which_nobody_has_said_since_when_runs_out_all_the_same(settings: Settings, pool: Pool) -> None:
    order = await walked(pool, State.RESTAURANT_NOTIFIED)
    await pool.execute("UPDATE orders SET deadline_position = NULL")  # as a process of the release before leaves it
    await Clock(pool, settings).step(datetime.now(UTC) + LATER)
    body = await pool.fetchval("SELECT body FROM outbox WHERE type = 'order.deadline'")
    command = msgspec.json.decode(body, type=OrderDeadline)
    old, _ = await load(pool, order.order_id)
    assert isinstance(await order_deadline(command, old), Done)


async def test_a_stuck_order_gets_its_pending_commands_again_with_the_same_ids(settings: Settings, pool: Pool) -> None:
    cancelled, new = await walked(pool, State.CANCELLED), await placed(pool)
    issued = set(await _commands(pool))
    clock, now = Clock(pool, settings), datetime.now(UTC)
    for days in (1, 2):
        assert await clock.step(now + days * LATER) == 2
        again = await _commands(pool)
        assert {key for _, key in again} == set(cancelled.pending) | set(new.pending)
        assert set(again) <= issued
        assert len(again) == 3


async def test_a_command_that_is_done_is_not_issued_again(settings: Settings, pool: Pool) -> None:
    order = await walked(pool, State.CANCELLED)
    await _commands(pool)
    for key in order.pending:
        await finish(pool, order.order_id, key, datetime.now(UTC))
    assert await Clock(pool, settings).step(datetime.now(UTC) + LATER) == 0
    assert await _commands(pool) == []


async def test_a_finished_order_is_never_due(settings: Settings, pool: Pool) -> None:
    await walked(pool, State.DELIVERED)
    await walked(pool, State.PAYMENT_FAILED)
    assert await Clock(pool, settings).step(datetime.now(UTC) + LATER) == 0


async def test_two_clocks_at_once_turn_each_due_order_into_one_command(settings: Settings, pool: Pool) -> None:
    orders = [await walked(pool, State.RESTAURANT_NOTIFIED) for _ in range(20)]
    await _commands(pool)
    later = datetime.now(UTC) + LATER
    turns = [Clock(pool, settings).step(later) for _ in range(4)]
    assert sum(await asyncio.gather(*turns)) == len(orders)
    commands = await _commands(pool)
    assert len(commands) == len(set(commands)) == len(orders)


async def test_of_two_running_clocks_one_works_and_both_stop_when_told(settings: Settings, pool: Pool) -> None:
    order = await walked(pool, State.RESTAURANT_NOTIFIED)
    await pool.execute("UPDATE orders SET deadline_at = now() - interval '1 second'")
    await _commands(pool)
    stop = asyncio.Event()
    running = [asyncio.create_task(Clock(pool, settings).run(stop)) for _ in range(2)]

    async def fired() -> None:
        assert await pool.fetchval("SELECT count(*) FROM outbox WHERE type = 'order.deadline'") == 1
        assert await pool.fetchval("SELECT count(*) FROM leases WHERE name = 'clock' AND expires_at > now()") == 1

    await eventually(fired)
    stop.set()
    await asyncio.gather(*running)
    after, _ = await load(pool, order.order_id)
    assert after.deadline_at is not None
    assert after.deadline_at > datetime.now(UTC)
    assert await pool.fetchval("SELECT count(*) FROM leases WHERE expires_at > now()") == 0  # given back


async def test_days_of_events_are_made_ahead_and_dropped_when_they_are_old(settings: Settings, pool: Pool) -> None:
    now = datetime.now(UTC)
    tomorrow = (now + LATER).strftime("order_events_%Y%m%d")
    old_day = (now - timedelta(days=40)).date()
    old = old_day.strftime("order_events_%Y%m%d")
    async with connect(settings.migrate_url, service="tests") as owner:
        await owner.execute(f"DROP TABLE IF EXISTS {tomorrow}")
        await owner.execute(
            f"CREATE TABLE {old} PARTITION OF order_events FOR VALUES FROM ('{old_day}') TO ('{old_day + LATER}')"
        )
    long_ago = await placed(pool)
    await pool.execute("INSERT INTO inbox VALUES ('cmd_old', $1), ('cmd_new', $2)", now - timedelta(days=8), now)
    stop = asyncio.Event()
    running = asyncio.create_task(Clock(pool, settings).run(stop))

    async def kept_house() -> None:
        assert await pool.fetchval("SELECT to_regclass($1)::text", old) is None
        assert await pool.fetchval("SELECT to_regclass($1)::text", tomorrow) == tomorrow
        assert await pool.fetch("SELECT message_id FROM inbox") == [("cmd_new",)]

    await eventually(kept_house)
    stop.set()
    await running
    assert await pool.fetchval("SELECT count(*) FROM order_events") == long_ago.position
    with pytest.raises(NotFound):
        await load(pool, "ord_nobody")
