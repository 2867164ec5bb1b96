"""A restaurant cannot: another takes the order for what was paid, or the money goes back."""

from typing import Any

import msgspec
import pytest

from orders.commands import CancelOrder, DispatchDriver
from orders.decide import Cause, Wish, decide, system
from orders.errors import NotAllowed
from orders.hours import WEEKDAYS
from orders.lifecycle import Action
from orders.money import Amounts, Line
from orders.names import State
from orders.order import Order
from orders.rerouting import MOST_REROUTES, REROUTED_AFTER, Alternative, TooExpensive, alternative, may_go_on, reroute
from tests.fake_ports import FakeAlternatives, FakeDrivers
from tests.making import NOW, order_in, wait
from workers.handlers.driver_dispatch import driver_dispatch
from workers.handlers.order_cancel import order_cancel
from workers.outcome import Done, Outcome
from workers.ports import NoDriverAvailable

OTHER = "rst_other"
ALWAYS = {day: [["00:00", "24:00"]] for day in WEEKDAYS}


def _menu(*prices: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"item_id": f"x_{name}", "name": name, "unit_price": price} for name, price in prices]


def _candidate(**values: Any) -> dict[str, Any]:
    menu = _menu(("Margherita", 1_100), ("Tiramisù", 600), ("Water", 100))
    return {"restaurant_id": OTHER, "name": "Other", "time_zone": "UTC", "hours": ALWAYS, "currency": "eur",
            "delivery_fee": 250, "menu": menu, **values}  # fmt: skip


def _found(order: Order, **values: Any) -> Alternative:
    found = alternative(order, _candidate(**values), NOW)
    assert found is not None
    return found


def _cancel(order: Order, reason: str) -> CancelOrder:
    return CancelOrder(order_id=order.order_id, position=order.position, reason=reason)


def _granted(order: Order, outcome: Outcome) -> Order:
    assert isinstance(outcome, Done)
    return decide(order, outcome.wish, Cause(id="cmd_1", actor=system("tests"), service="tests"), NOW, wait).order


def test_another_restaurant_has_the_same_items_by_name_at_its_own_prices() -> None:
    found = _found(order_in(State.RESTAURANT_REJECTED))
    assert found.items == (Line("x_Margherita", "Margherita", 2, 1_100), Line("x_Tiramisù", "Tiramisù", 1, 600))
    assert found.amounts == Amounts(currency="eur", item_count=3, subtotal=2_800, delivery_fee=250)


@pytest.mark.parametrize(
    "values",
    [
        {"hours": {}},
        {"menu": _menu(("Margherita", 100))},
        {"delivery_fee": 1_000},
        {"menu": _menu(("Margherita", 1_400), ("Tiramisù", 700))},
    ],
    ids=["closed", "lacks an item", "the fee makes it dearer", "the items make it dearer"],
)
def test_a_restaurant_that_cannot_do_it_for_what_was_paid_is_none(values: dict[str, Any]) -> None:
    assert alternative(order_in(State.RESTAURANT_REJECTED), _candidate(**values), NOW) is None


@pytest.mark.parametrize("reason", sorted(REROUTED_AFTER))
async def test_a_rejected_order_goes_to_another_restaurant_and_the_difference_goes_back(reason: str) -> None:
    order, others = order_in(State.RESTAURANT_REJECTED), FakeAlternatives()
    others.found = _found(order)
    moved = _granted(order, await order_cancel(_cancel(order, reason), order, others))
    assert (moved.state, moved.restaurant_id, moved.total) == (State.PAYMENT_CONFIRMED, OTHER, 3_050)
    assert moved.past_restaurants == (order.restaurant_id,)
    bodies = {entry.type: entry.body for entry in moved.pending.values() if entry.type != "order.cancel"}
    assert bodies["restaurant.notify"]["restaurant_id"] == OTHER
    assert (bodies["payment.refund"]["reason"], bodies["payment.refund"]["amount"]) == ("price_difference", 150)


async def test_an_order_that_costs_the_same_elsewhere_moves_without_a_refund() -> None:
    order, others = order_in(State.RESTAURANT_REJECTED), FakeAlternatives()
    others.found = _found(order, menu=_menu(("Margherita", 1_150), ("Tiramisù", 600)), delivery_fee=300)
    moved = _granted(order, await order_cancel(_cancel(order, "restaurant_rejected"), order, others))
    assert (moved.total, "payment.refund" in {entry.type for entry in moved.pending.values()}) == (order.total, False)


@pytest.mark.parametrize("reason", [*sorted(REROUTED_AFTER), "closing_time"])
async def test_without_another_restaurant_all_of_the_money_goes_back(reason: str) -> None:
    order = order_in(State.RESTAURANT_REJECTED)
    moved = _granted(order, await order_cancel(_cancel(order, reason), order, FakeAlternatives()))
    assert (moved.state, moved.reason) == (State.CANCELLED, reason)
    assert "payment.refund" in {entry.type for entry in moved.pending.values()}


async def test_at_closing_time_nobody_else_is_asked() -> None:
    order, others = order_in(State.RESTAURANT_REJECTED), FakeAlternatives()
    others.found = _found(order)
    assert _granted(order, await order_cancel(_cancel(order, "closing_time"), order, others)).state is State.CANCELLED


async def test_an_order_is_tried_at_three_restaurants_and_then_cancelled() -> None:
    others, order = FakeAlternatives(), order_in(State.RESTAURANT_REJECTED)
    for number in range(MOST_REROUTES):
        others.found = msgspec.structs.replace(_found(order, delivery_fee=0), restaurant_id=f"rst_{number}")
        order = _granted(order, await order_cancel(_cancel(order, "restaurant_rejected"), order, others))
        assert order.state is State.PAYMENT_CONFIRMED
        order = msgspec.structs.replace(order, state=State.RESTAURANT_REJECTED)
    assert not may_go_on(order)
    assert _granted(order, await order_cancel(_cancel(order, "restaurant_rejected"), order, others)).state is State.CANCELLED


async def test_what_one_restaurant_said_does_not_end_what_another_is_cooking() -> None:
    order = order_in(State.RESTAURANT_ACCEPTED)
    for reason in (*REROUTED_AFTER, "closing_time"):
        with pytest.raises(NotAllowed):
            await order_cancel(_cancel(order, reason), order, FakeAlternatives())


def test_substitutes_at_the_same_restaurant_are_no_loss_of_it() -> None:
    order = order_in(State.RESTAURANT_REJECTED)
    wish = reroute(order, order.restaurant_id, order.items, order.amounts, "item_unavailable")
    assert wish.changes["past_restaurants"] == ()
    with pytest.raises(TooExpensive):
        reroute(order, OTHER, order.items, Amounts("eur", 3, order.subtotal + 1, order.delivery_fee), "item_unavailable")


@pytest.mark.parametrize(("attempts", "within_m"), [(0, 3_000), (1, 6_000), (2, 12_000), (3, None), (40, None)])
async def test_each_search_for_a_driver_that_was_in_vain_makes_the_next_one_wider(attempts: int, within_m: int | None) -> None:
    order, drivers = order_in(State.RESTAURANT_ACCEPTED), FakeDrivers()
    with pytest.raises(NoDriverAvailable):
        await driver_dispatch(
            DispatchDriver(order_id=order.order_id, position=order.position), order, drivers, attempts=attempts, now=NOW
        )
    assert drivers.named("reserve") == [(order.order_id, within_m)]


def test_a_wish_to_reroute_says_where_from() -> None:
    order = order_in(State.RESTAURANT_REJECTED)
    wish: Wish = reroute(order, OTHER, order.items, order.amounts, "restaurant_rejected")
    assert (wish.action, wish.data["from_restaurant_id"]) == (Action.REROUTE, order.restaurant_id)
