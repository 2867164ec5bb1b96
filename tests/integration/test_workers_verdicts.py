"""One command through a real queue: done, late, twice, failing for a while, failing for good, unreadable."""

import asyncio
from datetime import UTC, datetime

import msgspec

from adapters.payments import ProviderUnavailable
from adapters.postgres import DatabaseUnavailable
from orders.lifecycle import Action, Deadline
from orders.names import DEAD_LETTERS, POISON, PRIORITY_RETURNED, Command, Money, Queue, State
from orders.parking import FIRST_FAILED_AT, LAST_ERROR, REASON
from outbox.letters.ingest import ingest
from outbox.letters.parked import Parked, letter_of
from outbox.transition import apply
from tests.fake_ports import FakePorts
from tests.integration.workers_ground import Ground, ground
from tests.making import change_of, eventually, placed, walked
from workers.ports import RestaurantUnreachable

__all__ = ["ground"]


async def test_a_charge_takes_the_order_to_payment_confirmed_and_is_remembered(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    key = await ground.send(order, Command.PAYMENT_CHARGE)

    async def confirmed() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.money, now.captured) == (State.PAYMENT_CONFIRMED, Money.CAPTURED, order.total)
        assert now.payment_intent_id == f"pi_{order.order_id}"
        assert await ground.done(key)
        assert key not in now.pending
        assert await ground.depth(Queue.PAYMENTS) == 0

    async with ground.working(fakes):
        await eventually(confirmed)
    assert len(fakes.payments.named("confirm")) == 1
    assert "restaurant.notify" in await ground.issued(order.order_id)


async def test_a_command_that_comes_twice_is_done_once(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    for _ in range(5):
        await ground.send(order, Command.PAYMENT_CHARGE)

    async def drained() -> None:
        assert (await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED
        assert await ground.depth(Queue.PAYMENTS) == 0

    async with ground.working(fakes, Queue.PAYMENTS):
        await eventually(drained)
    assert (await ground.order(order.order_id)).position == 3
    assert await ground.depth(DEAD_LETTERS) == 0


async def test_a_provider_that_is_down_sends_the_charge_to_the_next_tier_and_it_comes_back(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    fakes.payments.before["create"] = [ProviderUnavailable("down")] * 5  # one tier is not enough: three quick tries each
    await ground.send(order, Command.PAYMENT_CHARGE)

    async def confirmed() -> None:
        assert (await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED

    async with ground.working(fakes, Queue.PAYMENTS):
        await eventually(confirmed)
    assert await ground.depth("orders.retry.1m") == 0


async def test_what_waits_in_a_tier_keeps_its_body_and_says_why_it_waits(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    fakes.payments.always["create"] = ProviderUnavailable("down")
    await ground.send(order, Command.PAYMENT_CHARGE)

    async def waiting() -> None:
        assert await ground.depth("orders.retry.1m") == 1

    async with ground.working(fakes, Queue.PAYMENTS, time_scale=1.0):
        await eventually(waiting)
    (letter,) = await ground.letters("orders.retry.1m")
    assert msgspec.json.decode(letter.body)["order_id"] == order.order_id
    assert (letter.routing_key, letter.priority) == ("payment.charge", PRIORITY_RETURNED)
    assert letter.headers["rushline-attempts"] == "1"
    assert letter.headers[LAST_ERROR] == "ProviderUnavailable"
    assert letter.headers[FIRST_FAILED_AT]


async def test_an_exhausted_charge_is_parked_and_its_order_ends_with_a_refund_to_settle(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    fakes.payments.always["create"] = ProviderUnavailable("down")
    await ground.send(order, Command.PAYMENT_CHARGE)

    async def ended() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.reason) == (State.PAYMENT_FAILED, "payment_timeout")
        assert [entry.type for entry in now.pending.values()] == ["payment.refund"]

    async with ground.working(fakes, Queue.PAYMENTS, time_scale=6_000.0):
        await eventually(ended)
    (letter,) = await ground.letters(DEAD_LETTERS)
    assert letter.headers[REASON] == "provider-unavailable"
    assert letter.headers["rushline-attempts"] == "4"
    assert len(fakes.payments.named("create")) == 12


async def test_a_restaurant_that_cannot_be_told_rejects_its_order(ground: Ground) -> None:
    fakes, order = FakePorts(), await walked(ground.pool, State.PAYMENT_CONFIRMED)
    fakes.restaurants.always["tell"] = RestaurantUnreachable("refused")
    await ground.send(order, Command.RESTAURANT_NOTIFY)

    async def ended() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.reason) == (State.RESTAURANT_REJECTED, "restaurant_unreachable")

    async with ground.working(fakes, Queue.RESTAURANTS, time_scale=6_000.0):
        await eventually(ended)
    assert "order.cancel" in await ground.issued(order.order_id)
    assert len(await ground.letters(DEAD_LETTERS)) == 1


async def test_a_parked_refund_is_an_operators_and_the_watchdog_lets_go_of_it(ground: Ground) -> None:
    fakes, order = FakePorts(), await walked(ground.pool, State.CANCELLED)
    key = next(k for k, entry in order.pending.items() if entry.type == "payment.refund")
    await ground.pool.execute("UPDATE orders SET payment_intent_id = $2 WHERE order_id = $1", order.order_id, f"pi_{key}")
    fakes.payments.always["retrieve"] = ProviderUnavailable("down")
    await ground.send(order, Command.PAYMENT_REFUND)

    async def parked() -> None:
        assert await ground.depth(DEAD_LETTERS) == 1

    async with ground.working(fakes, Queue.PAYMENTS, time_scale=6_000.0):
        await eventually(parked)
    (letter,) = await ground.letters(DEAD_LETTERS)
    assert key in (await ground.order(order.order_id)).pending  # were it lost now, it would be issued again
    message = Parked(
        queue=DEAD_LETTERS, routing_key=letter.routing_key, headers=letter.headers, body=letter.body, message_id=key,
        priority=letter.priority,
    )  # fmt: skip
    await ingest(ground.pool, [letter_of(message, datetime.now(UTC))])
    now = await ground.order(order.order_id)
    assert (key in now.pending, now.deadline) == (False, None if not now.pending else Deadline.STUCK)
    assert not await ground.done(key)  # it can be replayed


async def test_a_body_that_cannot_be_read_is_quarantined_with_its_original_bytes(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    await ground.publish("payment.charge", b"\xff\x00 not json", {"mine": "kept"}, key="strange")

    async def quarantined() -> None:
        assert await ground.depth(POISON) == 1

    async with ground.working(fakes):
        await eventually(quarantined)
    (letter,) = await ground.letters(POISON)
    assert (letter.body, letter.routing_key, letter.headers["mine"]) == (b"\xff\x00 not json", "payment.charge", "kept")
    assert letter.headers[REASON] == "invalid-message"
    assert letter.headers["quarantined_at"]
    assert (await ground.order(order.order_id)).position == 1


async def test_a_late_command_is_stale_and_changes_nothing(ground: Ground) -> None:
    fakes = FakePorts()
    order = await walked(ground.pool, State.PAYMENT_CONFIRMED)
    old = await ground.order(order.order_id)
    order = await apply(ground.pool, change_of(Action.CANCEL, order))
    key = await ground.send(old, Command.RESTAURANT_NOTIFY)

    async def settled() -> None:
        assert await ground.depth(Queue.RESTAURANTS) == 0

    async with ground.working(fakes, Queue.RESTAURANTS) as stop:
        await eventually(settled)
        stop.set()
        await asyncio.sleep(0)
    assert not fakes.restaurants.calls
    assert await ground.order(order.order_id) == order
    assert not await ground.done(key)
    assert await ground.depth(Queue.RESTAURANTS) == await ground.depth(DEAD_LETTERS) == 0


async def test_a_lost_race_is_run_again_from_the_load(ground: Ground) -> None:
    """Somebody else moves the order while the restaurant is being told."""
    fakes, order = FakePorts(), await walked(ground.pool, State.PAYMENT_CONFIRMED)
    tell, raced = fakes.restaurants.tell, []

    async def tell_slowly(restaurant_id: str, message_id: str, body: bytes) -> None:
        await tell(restaurant_id, message_id, body)
        if not raced:
            raced.append(await apply(ground.pool, change_of(Action.INTERVENE, order)))

    fakes.restaurants.tell = tell_slowly  # type: ignore[method-assign]
    await ground.send(order, Command.RESTAURANT_NOTIFY)

    async def notified() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.position) == (State.RESTAURANT_NOTIFIED, order.position + 2)

    async with ground.working(fakes, Queue.RESTAURANTS):
        await eventually(notified)
    first, second = fakes.restaurants.named("tell")
    assert first[1] == second[1]  # the same webhook id: the restaurant sees it as one


async def test_a_database_that_is_away_costs_no_attempt(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    fakes.payments.before["create"] = [DatabaseUnavailable("restarting")] * 6
    await ground.send(order, Command.PAYMENT_CHARGE)

    async def confirmed() -> None:
        assert (await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED

    async with ground.working(fakes, Queue.PAYMENTS, time_scale=1.0):
        await eventually(confirmed)
    assert await ground.depth("orders.retry.1m") == await ground.depth(DEAD_LETTERS) == 0
