"""What tests make orders, moves and running relays of, and how they wait: by polling an assertion, never by sleeping."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from adapters.postgres import Pool, connect
from adapters.settings import Settings
from orders import chain
from orders.commands import command_id
from orders.decide import Cause, Change, Wish, decide, system
from orders.envelope import Broker, OutboxRow, new_traceparent
from orders.facts import Actor
from orders.ids import derived_id, new_id
from orders.lifecycle import PLACE, Action, Deadline, Row, row_for
from orders.money import Line
from orders.names import Command, Money, Role, State
from orders.order import Address, Order
from outbox.__main__ import LANES, run_relay
from outbox.transition import apply

REPOSITORY = Path(__file__).parent.parent
NOW = datetime(2025, 3, 14, 18, 30, tzinfo=UTC)
DRIVER = "drv_01958f6e-0000-7000-8000-000000000001"

# The shortest way from a placed order to each state.
_TO_KITCHEN = (Action.BEGIN_PAYMENT, Action.CONFIRM_PAYMENT, Action.NOTIFY_RESTAURANT)
_TO_DRIVER = (*_TO_KITCHEN, Action.ACCEPT, Action.ASSIGN_DRIVER)
WAY_TO: Mapping[State, tuple[Action, ...]] = {
    State.PLACED: (),
    State.PAYMENT_PROCESSING: _TO_KITCHEN[:1],
    State.PAYMENT_CONFIRMED: _TO_KITCHEN[:2],
    State.RESTAURANT_NOTIFIED: _TO_KITCHEN,
    State.RESTAURANT_ACCEPTED: _TO_DRIVER[:4],
    State.DRIVER_ASSIGNED: _TO_DRIVER,
    State.PICKED_UP: (*_TO_DRIVER, Action.PICK_UP),
    State.DELIVERED: (*_TO_DRIVER, Action.PICK_UP, Action.DELIVER),
    State.PAYMENT_FAILED: (Action.BEGIN_PAYMENT, Action.FAIL_PAYMENT),
    State.RESTAURANT_REJECTED: (*_TO_KITCHEN, Action.REJECT),
    State.CANCELLED: (*_TO_KITCHEN, Action.CANCEL),
}


def wait(_: Deadline) -> timedelta:
    """Five minutes for everything."""
    return timedelta(minutes=5)


def unplaced(now: datetime = NOW, **values: Any) -> Order:
    """An order as the gateway has priced it, before it is placed."""
    items = (Line("itm_1", "Margherita", 2, 1_150), Line("itm_2", "Tiramisù", 1, 600))
    order = Order(
        order_id=new_id("ord"), customer_id=new_id("cus"), restaurant_id=new_id("rst"), city="Utrecht", state=State.PLACED,
        chain_head=chain.GENESIS, items=items, address=Address("Oudegracht 1", "Utrecht", "3511", 52.09, 5.12),
        currency="eur", item_count=3, subtotal=2_900, delivery_fee=300, total=3_200, payment_method_id="pm_card_visa",
        traceparent=new_traceparent(), placed_at=now, updated_at=now,
    )  # fmt: skip
    return msgspec.structs.replace(order, **values)


def actor(role: Role) -> Actor:
    return system("tests") if role is Role.SYSTEM else Actor(role, f"{role.value}-1")


def row_of(action: Action, state: State) -> Row:
    return PLACE if action is Action.PLACE else row_for(action, state)


def cause_of(action: Action, order: Order, *, role: Role | None = None) -> Cause:
    """Someone who may. A payment's first step is a step of its charge command, which goes on."""
    allowed = role or min(row_of(action, order.state).by)
    if action is Action.BEGIN_PAYMENT:
        charge = next((key for key, entry in order.pending.items() if entry.type == Command.PAYMENT_CHARGE), "cmd_charge")
        return Cause(id=charge, actor=actor(allowed), service="tests", command=Command.PAYMENT_CHARGE, last=False)
    return Cause(id=f"req_{action.value}_{order.position}", actor=actor(allowed), service="tests")


def wish_of(action: Action, order: Order) -> Wish:
    """The action with what its facts and commands need."""
    reason = "closed" if action in (Action.REJECT, Action.CANCEL) else None
    changes: dict[str, Any] = {}
    data: dict[str, Any] = {}
    match action:
        case Action.PLACE:
            data = {"items": order.items, "total": order.total, "address": order.address}
        case Action.CONFIRM_PAYMENT | Action.CONFIRM_LATE_PAYMENT:
            changes, data = {"captured": order.total, "money": Money.CAPTURED}, {"amount": order.total}
        case Action.ASSIGN_DRIVER:
            changes, data = {"driver_id": DRIVER}, {"driver_id": DRIVER, "distance_m": 900}
        case Action.RELEASE_DRIVER:
            changes, data = {"driver_id": None}, {"driver_id": order.driver_id}
            return Wish(action=action, changes=changes, data=data, free_driver=order.driver_id)
        case Action.CANCEL_FOR_FRAUD | Action.FLAG_FRAUD:
            data = {"rule": "velocity"}
        case _:
            pass
    return Wish(action=action, reason=reason, changes=changes, data=data)


def change_of(action: Action, order: Order, now: datetime = NOW) -> Change:
    return decide(order, wish_of(action, order), cause_of(action, order), now, wait)


def order_in(state: State) -> Order:
    """An order that came to this state by the shortest way."""
    order = change_of(Action.PLACE, unplaced()).order
    for action in WAY_TO[state]:
        order = change_of(action, order).order
    return order


async def placed(pool: Pool, **values: Any) -> Order:
    """An order, placed in the database now."""
    now = datetime.now(UTC)
    return await apply(pool, change_of(Action.PLACE, unplaced(now, placed_at=now, **values), now))


async def walked(pool: Pool, state: State, **values: Any) -> Order:
    """An order in the database that came to this state by the shortest way."""
    order = await placed(pool, **values)
    for action in WAY_TO[state]:
        order = await apply(pool, change_of(action, order, datetime.now(UTC)))
    return order


def fact_row(order_id: str, position: int | None, **values: Any) -> OutboxRow:
    """A bare fact for the outbox."""
    row = OutboxRow(
        event_id=derived_id("evt", order_id, position or 0, "x"), aggregate_id=order_id, position=position, type="order.placed",
        schema_version=1, body=b"{}", headers={}, broker=Broker.KAFKA, destination="orders.events", occurred_at=datetime.now(UTC),
    )  # fmt: skip
    return msgspec.structs.replace(row, **values)


def command_message(order_id: str, **values: Any) -> OutboxRow:
    """A bare command for the outbox."""
    row = OutboxRow(
        event_id=command_id(order_id, 1, Command.PAYMENT_CHARGE), aggregate_id=order_id, position=1, type="payment.charge",
        schema_version=1, body=b"{}", headers={}, broker=Broker.RABBITMQ, destination="payment.charge", priority=2,
        occurred_at=datetime.now(UTC),
    )  # fmt: skip
    return msgspec.structs.replace(row, **values)


def quick(settings: Settings, **values: Any) -> Settings:
    """The same servers with short waits."""
    values = {"relay_idle_ms": 10, "relay_lease_ms": 600, "publish_timeout_ms": 2_000, "clock_tick_ms": 20, **values}
    return msgspec.structs.replace(settings, **values)


@asynccontextmanager
async def relaying(settings: Settings, lanes: tuple[Broker, ...] = LANES) -> AsyncIterator["asyncio.Task[None]"]:
    """A relay that runs meanwhile, and must not have ended by itself."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_relay(settings, stop, lanes))
    try:
        yield task
        assert task.cancelling() or not task.done(), task
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)


async def empty(settings: Settings) -> None:
    """Forget every order and everything about them, and every letter."""
    async with connect(settings.migrate_url, service="tests") as owner:
        await owner.execute(
            """TRUNCATE orders, order_events, inbox, outbox, outbox_set_aside, leases, idempotency_keys, menu_items, restaurants,
               drivers, dead_letters, letter_groups, letter_history, letter_edits, letter_replays, letter_replay_items,
               letter_rule_uses, letter_rule_queue, disputes, dispute_evidence, alerts, watched_commands"""
        )


async def eventually(check: Callable[[], Awaitable[None]], timeout_s: float = 30.0) -> None:
    """Ask again until the assertion holds; fail with the assertion's own message when the time is up."""
    end = time.monotonic() + timeout_s
    for attempt in itertools.count():
        try:
            await check()
        except AssertionError:
            if time.monotonic() > end:
                raise
        else:
            return
        await asyncio.sleep(min(0.005 * 2**attempt, 0.1))


def sealed(event: Mapping[str, Any], prev_hash: str) -> dict[str, Any]:
    """The event as the chain's next link."""
    whole: dict[str, Any] = msgspec.json.decode(chain.seal(event, prev_hash)[1])
    return whole
