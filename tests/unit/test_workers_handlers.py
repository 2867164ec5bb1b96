"""Restaurants, drivers, deadlines, cancellations and messages: what each handler wants, and what it tells whom."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from adapters.messaging import MessagingUnavailable, RecipientRefused
from orders.commands import (
    CancelOrder,
    CancelRestaurant,
    DispatchDriver,
    NotifyRestaurant,
    OrderDeadline,
    PushNotification,
    ReleaseDriver,
    SmsNotification,
)
from orders.decide import Cause, Wish, decide, system
from orders.errors import BadMessage, NotAllowed, Stale
from orders.facts import read_fact
from orders.lifecycle import Action, Deadline
from orders.names import FINAL, State
from orders.order import Order
from tests.fake_ports import FakeAlternatives, FakeDrivers, FakeMessages, FakeRestaurants
from tests.making import DRIVER, NOW, change_of, order_in, wait
from workers.handlers.driver_dispatch import driver_dispatch
from workers.handlers.driver_release import driver_release
from workers.handlers.notification_push import notification_push
from workers.handlers.notification_sms import notification_sms
from workers.handlers.order_cancel import order_cancel
from workers.handlers.order_deadline import order_deadline
from workers.handlers.restaurant_cancel import restaurant_cancel
from workers.handlers.restaurant_notify import restaurant_notify
from workers.outcome import Done, Nothing, Outcome
from workers.ports import NoDriverAvailable, NotDelivered, RestaurantUnreachable
from workers.templates import UnknownTemplate, render


def _at(order: Order) -> dict[str, Any]:
    return {"order_id": order.order_id, "position": order.position}


def _wish(outcome: Outcome) -> Wish:
    assert isinstance(outcome, Done)
    return outcome.wish


def _granted(order: Order, wish: Wish) -> Order:
    """The lifecycle has a row for it."""
    return decide(order, wish, Cause(id="cmd_1", actor=system("tests"), service="tests"), NOW, wait).order


async def test_a_restaurant_is_told_what_to_cook_and_until_when_to_answer() -> None:
    order, restaurants = order_in(State.PAYMENT_CONFIRMED), FakeRestaurants()
    command = NotifyRestaurant(**_at(order), restaurant_id=order.restaurant_id)
    outcome = await restaurant_notify(command, order, restaurants, "cmd_1", answer_by=NOW + timedelta(minutes=5))
    assert _wish(outcome).action is Action.NOTIFY_RESTAURANT
    ((restaurant_id, message_id, body),) = restaurants.named("tell")
    assert (restaurant_id, message_id) == (order.restaurant_id, "cmd_1")
    assert (body["type"], body["order_id"], body["position"]) == ("order.new", order.order_id, order.position)
    assert body["items"][0] == {"item_id": "itm_1", "name": "Margherita", "quantity": 2, "unit_price": 1_150}
    assert body["total"] == {"amount_minor": 3_200, "currency": "eur"}
    assert body["answer_by"] == "2025-03-14T18:35:00Z"
    assert body["address"]["city"] == "Utrecht"


@pytest.mark.parametrize("state", [State.CANCELLED, State.RESTAURANT_ACCEPTED, State.PLACED])
async def test_a_restaurant_is_not_told_of_an_order_that_is_elsewhere(state: State) -> None:
    order, restaurants = order_in(state), FakeRestaurants()
    command = NotifyRestaurant(**_at(order), restaurant_id=order.restaurant_id)
    with pytest.raises(NotAllowed):
        await restaurant_notify(command, order, restaurants, "cmd_1", answer_by=NOW)
    assert not restaurants.calls


async def test_a_restaurant_that_lost_the_order_to_another_is_not_told() -> None:
    order, restaurants = order_in(State.PAYMENT_CONFIRMED), FakeRestaurants()
    with pytest.raises(Stale):
        await restaurant_notify(
            NotifyRestaurant(**_at(order), restaurant_id="rst_old"), order, restaurants, "cmd_1", answer_by=NOW
        )
    assert not restaurants.calls


async def test_a_restaurant_is_told_that_an_order_is_off_at_its_newer_position() -> None:
    order, restaurants = order_in(State.CANCELLED), FakeRestaurants()
    command = CancelRestaurant(**_at(order), restaurant_id="rst_1", reason="fraud")
    assert await restaurant_cancel(command, order, restaurants, "cmd_2") == Nothing()
    ((restaurant_id, _, body),) = restaurants.named("tell")
    assert (restaurant_id, body["type"], body["position"]) == ("rst_1", "order.cancelled", order.position)


async def test_a_restaurant_that_does_not_answer_is_an_error_that_may_pass() -> None:
    order, restaurants = order_in(State.PAYMENT_CONFIRMED), FakeRestaurants()
    restaurants.always["tell"] = RestaurantUnreachable("404")
    with pytest.raises(RestaurantUnreachable):
        await restaurant_notify(
            NotifyRestaurant(**_at(order), restaurant_id=order.restaurant_id), order, restaurants, "cmd_1", answer_by=NOW
        )


async def test_a_driver_is_taken_and_told() -> None:
    order = order_in(State.RESTAURANT_ACCEPTED)
    outcome = await driver_dispatch(DispatchDriver(**_at(order)), order, FakeDrivers("drv_1"), attempts=0, now=NOW)
    wish = _wish(outcome)
    assert (wish.action, wish.take_driver, wish.changes) == (Action.ASSIGN_DRIVER, "drv_1", {"driver_id": "drv_1"})
    assert wish.data == {"driver_id": "drv_1", "distance_m": 700}
    assert isinstance(outcome, Done)
    (row,) = outcome.also
    body = msgspec.json.decode(row.body)
    assert (row.type, body["recipient"], body["template"]) == ("notification.push", "drv_1", "driver_assigned")


async def test_without_a_driver_the_search_goes_on() -> None:
    order = order_in(State.RESTAURANT_ACCEPTED)
    with pytest.raises(NoDriverAvailable):
        await driver_dispatch(DispatchDriver(**_at(order)), order, FakeDrivers(), attempts=0, now=NOW)


async def test_no_driver_is_reserved_for_an_order_that_needs_none() -> None:
    order, drivers = order_in(State.CANCELLED), FakeDrivers("drv_1")
    with pytest.raises(NotAllowed):
        await driver_dispatch(DispatchDriver(**_at(order)), order, drivers, attempts=0, now=NOW)
    assert not drivers.calls


async def test_a_driver_is_told_once_that_the_trip_is_off() -> None:
    order, messages = order_in(State.CANCELLED), FakeMessages()
    command = ReleaseDriver(**_at(order), driver_id=DRIVER, reason="no_show")
    assert await driver_release(command, order, messages) == Nothing()
    ((to, _, body, data),) = messages.named("push")
    assert (to, data["template"], data["order_id"]) == (DRIVER, "trip_cancelled", order.order_id)
    assert "no show" in body
    messages.always["push"] = MessagingUnavailable("down")
    with pytest.raises(NotDelivered):
        await driver_release(command, order, messages)


@pytest.mark.parametrize(
    ("kind", "state", "leads_to", "reason"),
    [
        ("restaurant_answer", State.RESTAURANT_NOTIFIED, State.RESTAURANT_REJECTED, "restaurant_timeout"),
        ("pick_up", State.DRIVER_ASSIGNED, State.RESTAURANT_ACCEPTED, "no_show"),
        ("delivery", State.PICKED_UP, State.CANCELLED, "delivery_overdue"),
    ],
)
async def test_a_deadline_that_ran_out_moves_the_order(kind: str, state: State, leads_to: State, reason: str) -> None:
    order = order_in(state)
    moved = _granted(order, _wish(await order_deadline(OrderDeadline(**_at(order), kind=kind), order)))
    assert (moved.state, moved.reason) == (leads_to, reason)


async def test_a_customer_who_does_not_decide_gets_the_money_back() -> None:
    order = change_of(Action.REJECT_ITEMS, order_in(State.RESTAURANT_NOTIFIED)).order
    moved = _granted(order, _wish(await order_deadline(OrderDeadline(**_at(order), kind="customer_decision"), order)))
    assert (moved.state, moved.reason) == (State.CANCELLED, "item_unavailable")
    assert [entry.type for entry in moved.pending.values()] == ["payment.refund"]


async def test_a_search_without_a_driver_goes_to_support_and_on_and_ends_at_its_second_deadline() -> None:
    order = order_in(State.RESTAURANT_ACCEPTED)
    dispatch = list(order.pending)
    escalated = _granted(order, _wish(await order_deadline(OrderDeadline(**_at(order), kind="driver_search"), order)))
    assert (escalated.state, escalated.deadline) == (State.RESTAURANT_ACCEPTED, Deadline.DRIVER_ESCALATION)
    assert list(escalated.pending) == dispatch  # the search goes on
    with pytest.raises(Stale):
        await order_deadline(OrderDeadline(**_at(order), kind="driver_search"), escalated)
    last = OrderDeadline(**_at(escalated), kind="driver_escalation")
    ended = _granted(escalated, _wish(await order_deadline(last, escalated)))
    assert (ended.state, ended.reason) == (State.CANCELLED, "no_driver")
    assert {entry.type for entry in ended.pending.values()} == {"payment.refund", "restaurant.cancel"}


async def test_a_restaurant_that_is_given_up_is_told_that_the_order_is_off() -> None:
    order = order_in(State.RESTAURANT_NOTIFIED)
    moved = _granted(order, _wish(await order_deadline(OrderDeadline(**_at(order), kind="restaurant_answer"), order)))
    told = {entry.type: entry.body for entry in moved.pending.values()}
    assert set(told) == {"order.cancel", "restaurant.cancel"}
    assert told["restaurant.cancel"] == {
        "order_id": order.order_id, "position": moved.position, "restaurant_id": order.restaurant_id,
        "reason": "restaurant_timeout",
    }  # fmt: skip


async def test_an_intervention_meanwhile_does_not_make_a_deadline_stale() -> None:
    order = order_in(State.RESTAURANT_NOTIFIED)
    command = OrderDeadline(**_at(order), kind="restaurant_answer")
    note = Wish(action=Action.INTERVENE, reason="fix", data={"letter_id": "let_1", "act": "replayed", "secret": "x"})
    change = decide(order, note, Cause(id="let_1", actor=system("letters"), service="letters"), NOW, wait)
    after = change.order
    assert (after.deadline, after.deadline_at, after.pending) == (order.deadline, order.deadline_at, order.pending)
    (event,) = change.events
    assert msgspec.json.decode(event.fact)["data"] == {"letter_id": "let_1", "act": "replayed"}
    assert msgspec.json.decode(event.audit)["details"] == {"letter_id": "let_1", "act": "replayed"}
    assert _granted(after, _wish(await order_deadline(command, after))).state is State.RESTAURANT_REJECTED


async def test_a_driver_who_did_not_show_up_is_freed_and_not_asked_again() -> None:
    order = order_in(State.DRIVER_ASSIGNED)
    wish = _wish(await order_deadline(OrderDeadline(**_at(order), kind="pick_up"), order))
    assert wish.free_driver == DRIVER
    moved = _granted(order, wish)
    assert (moved.driver_id, moved.past_drivers) == (None, (DRIVER,))
    released = next(entry for entry in moved.pending.values() if entry.type == "driver.release")
    assert released.body["driver_id"] == DRIVER


async def test_a_deadline_of_an_order_that_has_moved_is_stale() -> None:
    order = order_in(State.RESTAURANT_NOTIFIED)
    with pytest.raises(Stale):
        await order_deadline(
            OrderDeadline(order_id=order.order_id, position=order.position - 1, kind="restaurant_answer"), order
        )
    with pytest.raises(Stale):
        await order_deadline(OrderDeadline(**_at(order), kind="stuck"), order)
    with pytest.raises(BadMessage):
        await order_deadline(OrderDeadline(**_at(order), kind="soon"), order)


@pytest.mark.parametrize("state", list(State))
async def test_fraud_ends_every_order_and_is_recorded_where_it_has_ended(state: State) -> None:
    order = order_in(state)
    wish = _wish(await order_cancel(CancelOrder(**_at(order), reason="fraud", rule="velocity"), order, FakeAlternatives()))
    moved = _granted(order, wish)
    assert moved.state in FINAL
    assert wish.data == {"rule": "velocity"}
    assert moved.state is (state if state in FINAL else State.CANCELLED)


async def test_a_message_that_went_out_becomes_a_fact_without_a_position() -> None:
    order, messages = order_in(State.DELIVERED), FakeMessages()
    command = SmsNotification(**_at(order), recipient=order.customer_id, template="refunded", params={"amount": "1250"})
    outcome = await notification_sms(command, order, messages, "cmd_9", now=NOW)
    assert messages.named("sms") == [
        (order.customer_id, f"12.50 EUR of order {order.order_id[-8:]} goes back to you.", "cmd_9")
    ]
    assert isinstance(outcome, Nothing)
    (row,) = outcome.also
    fact = read_fact(row.schema_version, row.body)
    assert (row.destination, row.position, fact.position, fact.state) == ("orders.events", None, None, None)
    assert fact.data == {"channel": "sms", "template": "refunded", "recipient": order.customer_id}
    same = await notification_sms(command, order, messages, "cmd_9", now=NOW)
    assert same == outcome  # the same cause makes the same message


@pytest.mark.parametrize("error", [MessagingUnavailable("down"), RecipientRefused(400)])
async def test_a_push_that_fails_is_forgotten_and_an_sms_is_not(error: Exception) -> None:
    order, messages = order_in(State.DELIVERED), FakeMessages()
    messages.always = {"push": error, "sms": error}
    push = PushNotification(**_at(order), recipient=order.customer_id, template="delivered")
    with pytest.raises(NotDelivered):
        await notification_push(push, order, messages)
    sms = SmsNotification(**_at(order), recipient=order.customer_id, template="delivered")
    with pytest.raises(type(error)):
        await notification_sms(sms, order, messages, "cmd_9", now=NOW)


@pytest.mark.parametrize("template", ["payment_declined", "payment_failed", "refunded", "security_hold", "order_cancelled"])
def test_the_words_for_customers_never_hold_an_open_brace(template: str) -> None:
    order = order_in(State.CANCELLED)
    text = render(template, order.customer_id, order, {})
    assert "{" not in text.title + text.body
    assert order.order_id[-8:] in text.body


def test_words_that_nobody_wrote_are_an_operators() -> None:
    order = order_in(State.CANCELLED)
    with pytest.raises(UnknownTemplate):
        render("poem", order.customer_id, order, {})
    with pytest.raises(UnknownTemplate):
        render("security_hold", DRIVER, order, {})
