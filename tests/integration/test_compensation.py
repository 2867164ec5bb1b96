"""What goes wrong with an order is answered, on real servers: by another restaurant, another driver, or the money back."""

import pytest

from orders.lifecycle import Action
from orders.names import Command, Money, Queue, State
from orders.order import Order
from outbox.transition import apply
from tests.integration.city import City
from tests.integration.workers_ground import Ground, ground
from tests.making import change_of, empty, eventually
from workers.ports import RestaurantUnreachable

__all__ = ["ground"]

LONG = 600_000  # a wait that never ends in a test


@pytest.fixture(autouse=True)
async def _fresh(ground: Ground) -> None:
    await empty(ground.settings)


def _patient(ground: Ground, **waiting: int) -> City:
    """A city in which nothing runs out but what is given. 600 business seconds are one of ours."""
    long = dict.fromkeys(("restaurant_answer_s", "driver_search_s", "driver_escalation_s", "pick_up_s"), LONG)
    return City(ground, **{**long, **waiting})


async def _until(ground: Ground, order: Order, state: State, **fields: object) -> Order:
    async def there() -> None:
        now = await ground.order(order.order_id)
        found = {name: getattr(now, name) for name in fields}
        assert (now.state, found) == (state, fields)

    await eventually(there)
    return await ground.order(order.order_id)


async def _quiet(ground: Ground, order: Order) -> Order:
    """The order as it is once nothing is pending."""

    async def done() -> None:
        assert not (await ground.order(order.order_id)).pending

    await eventually(done)
    return await ground.order(order.order_id)


def _all_back(order: Order) -> bool:
    return (order.state, order.money, order.refunded) == (
        State.CANCELLED,
        Money.REFUNDED,
        order.captured,
    ) and order.captured > 0


async def test_a_restaurant_that_rejects_is_followed_by_another_and_the_difference_goes_back(ground: Ground) -> None:
    city = _patient(ground)
    first, second = await city.restaurant(), await city.restaurant(fee=100)
    order = await city.order(first)
    async with city.awake():
        now = await _until(ground, order, State.RESTAURANT_NOTIFIED)
        await city.answer(now, Action.REJECT, "restaurant_rejected")
        await _until(ground, order, State.RESTAURANT_NOTIFIED, restaurant_id=second, refunded=200)
        now = await _quiet(ground, order)
    assert (now.total, now.captured, now.money) == (order.total - 200, order.total, Money.PART_REFUNDED)
    assert city.told(order) == [(first, "order.new"), (second, "order.new")]
    assert (await city.facts(order)).count("order.rerouted") == 1
    assert await city.failures(order) == ["restaurant_rejected"]


async def test_a_restaurant_that_does_not_answer_loses_the_order_and_is_told_so(ground: Ground) -> None:
    city = _patient(ground, restaurant_answer_s=600)
    first, second = await city.restaurant(), await city.restaurant()
    order = await city.order(first)
    async with city.awake():
        await _until(ground, order, State.RESTAURANT_NOTIFIED, restaurant_id=second)
        await city.answer(await ground.order(order.order_id), Action.ACCEPT)

        async def told() -> None:
            assert sorted(city.told(order)) == sorted([(first, "order.new"), (first, "order.cancelled"), (second, "order.new")])

        await eventually(told)
    assert await city.failures(order) == ["restaurant_timeout"]


async def test_a_restaurant_that_cannot_be_reached_is_given_up_after_its_retries(ground: Ground) -> None:
    city = _patient(ground)
    first, second = await city.restaurant(), await city.restaurant()
    tell = city.fakes.restaurants.tell

    async def unless_first(restaurant_id: str, message_id: str, body: bytes) -> None:
        if restaurant_id == first:
            raise RestaurantUnreachable("nobody opens")
        await tell(restaurant_id, message_id, body)

    city.fakes.restaurants.tell = unless_first  # type: ignore[method-assign]
    order = await city.order(first)
    async with city.awake():
        now = await _until(ground, order, State.RESTAURANT_NOTIFIED, restaurant_id=second)
    assert now.past_restaurants == (first,)
    assert await city.failures(order) == ["restaurant_timeout"]


async def test_an_order_goes_to_three_restaurants_and_never_back_to_one(ground: Ground) -> None:
    city = _patient(ground)
    first, *others = [await city.restaurant() for _ in range(5)]
    order = await city.order(first)
    async with city.awake():
        tried = []
        for _ in range(3):
            now = await _until(ground, order, State.RESTAURANT_NOTIFIED)
            tried.append(now.restaurant_id)
            await city.answer(now, Action.REJECT, "restaurant_rejected")
        await _until(ground, order, State.CANCELLED)
        now = await _quiet(ground, order)
    assert tried[0] == first
    assert len(set(tried)) == 3
    assert set(tried[1:]) <= set(others)
    assert _all_back(now)
    assert await city.failures(order) == ["restaurant_rejected"] * 3


async def test_nobody_else_is_asked_at_closing_time_nor_without_consent_nor_where_it_is_dearer(ground: Ground) -> None:
    for reason, agreed, other in (
        ("closing_time", True, {}),
        ("restaurant_rejected", False, {}),
        ("restaurant_rejected", True, {"pizza": 1_400}),
        ("restaurant_rejected", True, {"hours": {}}),
        ("restaurant_rejected", True, {"city": "elsewhere"}),
    ):
        city = City(ground, agreed=agreed, restaurant_answer_s=LONG)
        first = await city.restaurant()
        await city.restaurant(**other)
        order = await city.order(first)
        async with city.awake():
            await city.answer(await _until(ground, order, State.RESTAURANT_NOTIFIED), Action.REJECT, reason)
            await _until(ground, order, State.CANCELLED, reason=reason)
            assert _all_back(await _quiet(ground, order))
        assert city.told(order) == [(first, "order.new")]


async def test_a_search_for_a_driver_goes_to_support_and_still_finds_one(ground: Ground) -> None:
    city = _patient(ground, driver_search_s=600)
    order = await city.order(await city.restaurant())
    async with city.awake():
        await city.answer(await _until(ground, order, State.RESTAURANT_NOTIFIED), Action.ACCEPT)

        async def escalated() -> None:
            assert (await city.facts(order))[-1] == "support.intervention"

        await eventually(escalated)
        driver = await city.driver()
        await _until(ground, order, State.DRIVER_ASSIGNED, driver_id=driver)
    audit = await ground.pool.fetchval(
        "SELECT convert_from(audit, 'UTF8')::jsonb FROM order_events WHERE order_id = $1 AND type = 'support.intervention'",
        order.order_id,
    )
    assert (audit["reason"], audit["actor"]["type"]) == ("driver_unavailable", "system")


async def test_an_order_without_a_driver_ends_at_its_second_deadline_with_the_money_back(ground: Ground) -> None:
    city = _patient(ground, driver_search_s=300, driver_escalation_s=300)
    restaurant = await city.restaurant()
    order = await city.order(restaurant)
    async with city.awake():
        await city.answer(await _until(ground, order, State.RESTAURANT_NOTIFIED), Action.ACCEPT)
        await _until(ground, order, State.CANCELLED, reason="no_driver")
        assert _all_back(await _quiet(ground, order))
    assert (await city.facts(order)).count("support.intervention") == 1
    assert city.told(order) == [(restaurant, "order.new"), (restaurant, "order.cancelled")]
    assert await city.failures(order) == ["driver_unavailable"]


async def test_a_driver_who_does_not_show_up_makes_room_for_the_next_and_never_comes_back(ground: Ground) -> None:
    city = _patient(ground, pick_up_s=300)
    order = await city.order(await city.restaurant())
    late = await city.driver()
    async with city.awake():
        await city.answer(await _until(ground, order, State.RESTAURANT_NOTIFIED), Action.ACCEPT)
        await _until(ground, order, State.DRIVER_ASSIGNED, driver_id=late)
        await _until(ground, order, State.RESTAURANT_ACCEPTED, driver_id=None)
        assert await ground.pool.fetchval("SELECT status FROM drivers WHERE driver_id = $1", late) == "available"
        await _until(ground, order, State.DRIVER_ASSIGNED, driver_id=await city.driver())
    assert await city.failures(order) == ["driver_no_show"]


async def test_a_customer_who_does_not_decide_about_missing_items_gets_the_money_back(ground: Ground) -> None:
    city = _patient(ground, customer_decision_s=600)
    order = await city.order(await city.restaurant())
    async with city.awake():
        await city.answer(await _until(ground, order, State.RESTAURANT_NOTIFIED), Action.REJECT_ITEMS, "sold_out")
        await _until(ground, order, State.CANCELLED, reason="item_unavailable")
        assert _all_back(await _quiet(ground, order))
    assert await city.failures(order) == ["item_unavailable"]


async def test_an_order_that_never_arrives_ends_with_the_money_back(ground: Ground) -> None:
    city = _patient(ground, delivery_s=600)
    order, driver = await city.order(await city.restaurant()), await city.driver()
    async with city.awake():
        await city.answer(await _until(ground, order, State.RESTAURANT_NOTIFIED), Action.ACCEPT)
        now = await _until(ground, order, State.DRIVER_ASSIGNED, driver_id=driver)
        await apply(ground.pool, change_of(Action.PICK_UP, now))
        await _until(ground, order, State.CANCELLED, reason="delivery_overdue")
        assert _all_back(await _quiet(ground, order))
    assert await ground.pool.fetchval("SELECT status FROM drivers WHERE driver_id = $1", driver) == "available"


async def test_fraud_after_payment_undoes_everything_once(ground: Ground) -> None:
    city = _patient(ground)
    restaurant, driver = await city.restaurant(), await city.driver()
    order = await city.order(restaurant)
    async with city.awake():
        await city.answer(await _until(ground, order, State.RESTAURANT_NOTIFIED), Action.ACCEPT)
        await _until(ground, order, State.DRIVER_ASSIGNED, driver_id=driver)
        for _ in range(2):
            await ground.send(order, Command.ORDER_CANCEL, reason="fraud", rule="velocity", detail="velocity")
        await _until(ground, order, State.CANCELLED, reason="fraud")
        assert _all_back(await _quiet(ground, order))
    assert city.told(order) == [(restaurant, "order.new"), (restaurant, "order.cancelled")]
    released = [push for push in city.fakes.messages.named("push") if push[3]["template"] == "trip_cancelled"]
    assert [push[0] for push in released] == [driver]
    assert await ground.pool.fetchval("SELECT status FROM drivers WHERE driver_id = $1", driver) == "available"
    assert len(city.fakes.payments.named("refund")) == 1
    facts = await city.facts(order)
    assert facts[-3:-1] == ["fraud.detected", "order.cancelled"]
    assert facts.count("fraud.detected") == 1
    assert await city.failures(order) == ["payment_fraud"]


async def test_an_intervention_between_the_clock_and_its_command_does_not_stop_a_deadline(ground: Ground) -> None:
    city = _patient(ground, restaurant_answer_s=600)
    order = await city.order(await city.restaurant())
    async with city.awake(Queue.PAYMENTS, Queue.RESTAURANTS):  # nobody does `order.deadline` yet
        await _until(ground, order, State.RESTAURANT_NOTIFIED)

        async def due() -> None:
            assert await ground.depth(Queue.ORDERS.value) >= 1

        await eventually(due)
    await apply(ground.pool, change_of(Action.INTERVENE, await ground.order(order.order_id)))
    async with city.awake():
        await _until(ground, order, State.CANCELLED, reason="restaurant_timeout")
