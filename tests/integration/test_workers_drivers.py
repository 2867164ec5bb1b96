"""Drivers are claimed from a real table: the nearest, of the city, never for two orders."""

import asyncio

from orders.ids import new_id
from orders.lifecycle import Action
from orders.names import DEAD_LETTERS, Command, Queue, State
from orders.order import Order
from outbox.transition import apply
from tests.fake_ports import FakeDrivers, FakePorts
from tests.integration.workers_ground import Ground, ground
from tests.making import change_of, eventually, walked
from workers.drivers import DriverTable
from workers.ports import NoDriverAvailable

__all__ = ["ground"]


def _fakes(ground: Ground) -> FakePorts:
    return FakePorts(drivers=DriverTable(ground.pool, ground.settings.time_scale))


async def _accepted(ground: Ground, city: str) -> Order:
    """An accepted order at a restaurant of this city."""
    order = await walked(ground.pool, State.RESTAURANT_ACCEPTED, city=city)
    await ground.add_restaurant(order)
    return order


async def test_the_nearest_driver_of_the_city_is_assigned_and_told(ground: Ground) -> None:
    city = new_id("rst")
    near, far, elsewhere = (new_id("drv") for _ in range(3))
    await ground.add_driver(far, city, 52.30, 5.12)
    await ground.add_driver(near, city, 52.10, 5.12)
    await ground.add_driver(elsewhere, f"not {city}", 52.09, 5.12)
    order = await _accepted(ground, city)
    await ground.send(order, Command.DRIVER_DISPATCH)

    async def assigned() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.driver_id) == (State.DRIVER_ASSIGNED, near)

    async with ground.working(_fakes(ground), Queue.DRIVERS):
        await eventually(assigned)
    row = await ground.pool.fetchrow("SELECT status, order_id, reserved_for FROM drivers WHERE driver_id = $1", near)
    assert row is not None
    assert tuple(row) == ("busy", order.order_id, None)
    assert (await ground.issued(order.order_id))[-1] == "notification.push"


async def test_twenty_dispatches_at_once_never_give_a_driver_to_two_orders(ground: Ground) -> None:
    city = new_id("rst")
    drivers = [new_id("drv") for _ in range(12)]
    for number, driver in enumerate(drivers):
        await ground.add_driver(driver, city, 52.09 + number / 1000, 5.12)
    orders = [await _accepted(ground, city) for _ in range(20)]
    for order in orders:
        await ground.send(order, Command.DRIVER_DISPATCH)
        await ground.send(order, Command.DRIVER_DISPATCH)  # and each command twice

    async def claimed() -> None:
        now = [await ground.order(order.order_id) for order in orders]
        assert sum(order.state is State.DRIVER_ASSIGNED for order in now) == len(drivers)

    fakes = _fakes(ground)
    async with ground.working(fakes, Queue.DRIVERS, worker_concurrency=20), ground.working(fakes, Queue.DRIVERS):
        await eventually(claimed)
    assigned = [(await ground.order(order.order_id)).driver_id for order in orders]
    taken = [driver for driver in assigned if driver]
    assert sorted(taken) == sorted(drivers)


async def test_without_a_driver_the_command_waits_in_the_first_tier_until_there_is_one(ground: Ground) -> None:
    """More often than there are tiers: the search ends with the order's own deadline, not with the attempts."""
    order = await walked(ground.pool, State.RESTAURANT_ACCEPTED)
    drivers = FakeDrivers()
    await ground.send(order, Command.DRIVER_DISPATCH)

    async def tried_often() -> None:
        assert len(drivers.named("reserve")) > 5

    async with ground.working(FakePorts(drivers=drivers), Queue.DRIVERS, time_scale=6_000.0):
        await eventually(tried_often)
    assert (await ground.order(order.order_id)).state is State.RESTAURANT_ACCEPTED
    assert await ground.depth(DEAD_LETTERS) == 0


async def test_a_driver_who_had_the_order_before_is_not_asked_again(ground: Ground) -> None:
    city, driver = new_id("rst"), new_id("drv")
    await ground.add_driver(driver, city, 52.10, 5.12)
    order = await _accepted(ground, city)
    table = DriverTable(ground.pool, 1.0)
    assert (await table.reserve(order, None)).driver_id == driver
    late = await ground.pool.execute("UPDATE orders SET past_drivers = ARRAY[$2] WHERE order_id = $1", order.order_id, driver)
    assert late == "UPDATE 1"
    try:
        await table.reserve(await ground.order(order.order_id), None)
    except NoDriverAvailable:
        return
    raise AssertionError("the driver was asked again")


async def test_a_reservation_is_kept_for_its_order_and_refused_to_others(ground: Ground) -> None:
    city, driver = new_id("rst"), new_id("drv")
    await ground.add_driver(driver, city, 52.10, 5.12)
    mine, other = await _accepted(ground, city), await _accepted(ground, city)
    table = DriverTable(ground.pool, 1.0)
    first, second = await table.reserve(mine, None), await table.reserve(mine, None)
    assert first == second
    assert (first.driver_id, 1_000 < first.distance_m < 1_300) == (driver, True)
    refused = await asyncio.gather(table.reserve(other, None), return_exceptions=True)
    assert isinstance(refused[0], NoDriverAvailable)
    await ground.pool.execute("UPDATE drivers SET reserved_until = now() - interval '1 s' WHERE driver_id = $1", driver)
    assert (await table.reserve(other, None)).driver_id == driver


async def test_a_driver_who_does_not_show_up_is_freed_and_another_is_asked_for(ground: Ground) -> None:
    city, late = new_id("rst"), new_id("drv")
    await ground.add_driver(late, city, 52.10, 5.12)
    order = await _accepted(ground, city)
    fakes = _fakes(ground)
    await ground.send(order, Command.DRIVER_DISPATCH)

    async def assigned() -> None:
        assert (await ground.order(order.order_id)).driver_id == late

    async def released() -> None:
        now = await ground.order(order.order_id)
        assert (now.state, now.driver_id, now.past_drivers) == (State.RESTAURANT_ACCEPTED, None, (late,))

    async with ground.working(fakes, Queue.DRIVERS, Queue.ORDERS):
        await eventually(assigned)
        await ground.send(await ground.order(order.order_id), Command.ORDER_DEADLINE, kind="pick_up")
        await eventually(released)
        await ground.send(await ground.order(order.order_id), Command.DRIVER_RELEASE)

        async def told() -> None:
            assert [push[3]["template"] for push in fakes.messages.named("push")] == ["trip_cancelled"]

        await eventually(told)
    assert await ground.pool.fetchval("SELECT status FROM drivers WHERE driver_id = $1", late) == "available"
    assert (await ground.issued(order.order_id))[-2:] == ["driver.release", "driver.dispatch"]
    order = await apply(ground.pool, change_of(Action.CANCEL, await ground.order(order.order_id)))
    assert order.state is State.CANCELLED
