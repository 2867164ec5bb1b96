"""What a change makes of an order, for every sequence of actions, with a provider's money beside it."""

import itertools
import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orders import chain
from orders.decide import Cause, Wish, decide
from orders.errors import NotAllowed
from orders.facts import read_fact
from orders.lifecycle import PLACE, TABLE, Action, Deadline
from orders.money import refund_due
from orders.names import FINAL, Command, Money, Role, State
from orders.order import Order
from tests.making import DRIVER, NOW, actor, cause_of, change_of, order_in, unplaced, wait, wish_of

encode = msgspec.msgpack.Encoder(order="deterministic").encode
BY_STATE = {state: sorted({row.action for row in TABLE if state in row.start}) for state in State}
# Steps that only report what the provider has done: the world below takes them, at the moment they are true.
REPORTS = {Action.CONFIRM_LATE_PAYMENT, Action.RECORD_REFUND}


class World:
    """An order, and a provider that knows what it holds. Everything that happens to the order goes through `decide`."""

    def __init__(self) -> None:
        self.order = unplaced(order_id="ord_01958f6e-0000-7000-8000-00000000aaaa")
        self.begun = self.closed = False
        self.held_once = self.given_back = 0
        self.audits: list[dict[str, Any]] = []
        self.positions: list[int] = []
        self.do(Action.PLACE)

    @property
    def can_capture(self) -> bool:
        return self.begun and not self.closed and self.held_once == 0

    def apply(self, wish: Wish, cause: Cause) -> None:
        change = decide(self.order, wish, cause, NOW + timedelta(seconds=len(self.audits)), wait)
        self.order = change.order
        for event in change.events:
            self.positions.append(event.position)
            self.audits.append(json.loads(event.audit))
            assert read_fact(1, event.fact).position == event.position

    def do(self, action: Action) -> None:
        """A legal action, at a provider that is consistent with it."""
        wish = wish_of(action, self.order)
        if action is Action.CONFIRM_PAYMENT:
            if self.closed:
                return
            self.capture()
        elif action is Action.FAIL_PAYMENT:
            if self.held_once:
                return
            self.closed = True
        elif action is Action.REROUTE and self.order.captured > self.order.refunded:
            wish = msgspec.structs.replace(wish, refund={"reason": "price_difference", "amount": 250})
        self.begun |= action is Action.BEGIN_PAYMENT
        self.apply(wish, cause_of(action, self.order))

    def capture(self) -> None:
        if self.can_capture:
            self.held_once = self.order.total

    def refunds(self) -> list[str]:
        return [key for key, entry in self.order.pending.items() if entry.type == Command.PAYMENT_REFUND]

    def refund(self, key: str) -> None:
        """What the refund's worker does: settle what the provider holds, record it, give back what is due."""
        body, cause = self.order.pending[key].body, Cause(id=key, actor=actor(Role.SYSTEM), service="tests")
        if self.held_once and not self.order.captured:
            late = wish_of(Action.CONFIRM_LATE_PAYMENT, self.order)
            self.apply(late, msgspec.structs.replace(cause, last=False))
        self.closed = True
        held = (self.order.captured, self.order.refunded)
        amount = refund_due(body["reason"], self.order.amounts, *held, body["amount"])
        if not amount:
            self.order = msgspec.structs.replace(self.order, pending={k: p for k, p in self.order.pending.items() if k != key})
            return
        self.given_back += amount
        refunded = self.order.refunded + amount
        money = Money.REFUNDED if refunded == self.order.captured else Money.PART_REFUNDED
        self.apply(Wish(action=Action.RECORD_REFUND, changes={"refunded": refunded, "money": money}), cause)

    def refuse_everything_illegal(self, action: Action, role: Role) -> None:
        before = encode(self.order)
        rows = [row for row in TABLE if row.action is action and self.order.state in row.start and role in row.by]
        if not rows:
            cause = Cause(id="req_wrong", actor=actor(role), service="tests")
            with pytest.raises(NotAllowed):
                decide(self.order, Wish(action=action, reason="wrong"), cause, NOW, wait)
        assert encode(self.order) == before

    def check(self) -> None:
        assert self.positions == list(range(1, len(self.positions) + 1))
        assert self.order.position == len(self.positions)
        assert chain.first_broken(self.audits) is None
        assert self.order.chain_head == self.audits[-1]["hash"]
        assert self.order.state in FINAL or self.order.deadline_at is not None
        assert self.order.state not in FINAL or self.order.deadline in {None, Deadline.STUCK}
        assert self.order.captured >= self.order.refunded


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_no_sequence_of_actions_breaks_the_record_or_keeps_money_for_an_order_that_is_not_delivered(
    data: st.DataObject,
) -> None:
    world = World()
    for _ in range(data.draw(st.integers(0, 14), "steps")):
        world.refuse_everything_illegal(data.draw(st.sampled_from(Action)), data.draw(st.sampled_from(Role)))
        match data.draw(st.sampled_from(["act", "act", "act", "capture", "refund"])):
            case "act":
                world.do(data.draw(st.sampled_from([a for a in BY_STATE[world.order.state] if a not in REPORTS])))
            case "capture":
                world.capture()
            case _ if keys := world.refunds():
                world.refund(data.draw(st.sampled_from(keys)))
            case _:
                pass
        world.check()
    if world.order.state not in FINAL:
        world.do(Action.CANCEL)  # whatever it waits for never comes
    if data.draw(st.booleans(), "the charge answers at the last moment"):
        world.capture()
    for key in world.refunds():
        world.refund(key)
    world.check()
    assert world.held_once == world.order.captured
    assert world.given_back == world.order.refunded
    if world.order.state is not State.DELIVERED:
        assert world.held_once == world.given_back
        assert not world.can_capture


@pytest.mark.parametrize("action", [a for a in Action if a is not Action.PLACE])
def test_an_order_that_was_never_placed_cannot_be_moved(action: Action) -> None:
    order = unplaced()
    with pytest.raises(NotAllowed):
        decide(order, Wish(action=action), Cause(id="c", actor=actor(Role.SYSTEM), service="tests"), NOW, wait)


@pytest.mark.parametrize("state", State)
def test_an_order_is_placed_once(state: State) -> None:
    order = order_in(state)
    with pytest.raises(NotAllowed):
        change_of(Action.PLACE, order)


@pytest.mark.parametrize(
    ("row", "role"), [(row, role) for row, role in itertools.product(TABLE, Role) if row is not PLACE and role not in row.by]
)
def test_a_role_that_the_table_does_not_name_is_refused(row: Any, role: Role) -> None:
    order = order_in(min(row.start))
    before = encode(order)
    with pytest.raises(NotAllowed):
        decide(order, wish_of(row.action, order), Cause(id="c", actor=actor(role), service="tests"), NOW, wait)
    assert encode(order) == before


@pytest.mark.parametrize("state", State)
def test_the_same_wish_on_the_same_order_makes_the_same_bytes(state: State) -> None:
    order = order_in(state)
    for action in BY_STATE[state]:
        first, second = (change_of(action, order) for _ in range(2))
        assert encode(first) == encode(second)


def test_a_step_that_was_begun_keeps_its_command_until_its_last_step() -> None:
    order = order_in(State.PLACED)
    begun = change_of(Action.BEGIN_PAYMENT, order).order
    assert begun.pending == order.pending
    assert begun.deadline is Deadline.STUCK


def test_a_new_stage_forgets_what_the_old_one_waited_for_but_never_a_refund() -> None:
    order = order_in(State.RESTAURANT_REJECTED)
    wish = Wish(action=Action.REROUTE, refund={"reason": "price_difference", "amount": 100})
    rerouted = decide(order, wish, cause_of(Action.REROUTE, order), NOW, wait).order
    assert sorted(entry.type for entry in rerouted.pending.values()) == ["payment.refund", "restaurant.notify"]
    accepted = change_of(Action.ACCEPT, rerouted).order
    assert sorted(entry.type for entry in accepted.pending.values()) == ["driver.dispatch", "payment.refund"]


def test_a_step_beside_the_way_keeps_state_and_deadline() -> None:
    order = order_in(State.RESTAURANT_NOTIFIED)
    after = decide(
        order, Wish(action=Action.INTERVENE), cause_of(Action.INTERVENE, order), NOW + timedelta(hours=1), wait
    ).order
    assert (after.state, after.deadline, after.deadline_at) == (order.state, order.deadline, order.deadline_at)
    assert after.position == order.position + 1


def test_ending_an_order_frees_its_driver() -> None:
    assert change_of(Action.CANCEL, order_in(State.PICKED_UP)).free_driver == DRIVER
    assert change_of(Action.DELIVER, order_in(State.PICKED_UP)).free_driver == DRIVER
    assert change_of(Action.CANCEL, order_in(State.RESTAURANT_ACCEPTED)).free_driver is None


def test_a_released_driver_is_told_and_another_one_is_looked_for() -> None:
    change = change_of(Action.RELEASE_DRIVER, order_in(State.DRIVER_ASSIGNED))
    assert [row.type for row in change.commands] == ["driver.release", "driver.dispatch"]
    assert json.loads(change.commands[0].body)["driver_id"] == DRIVER
    assert change.order.driver_id is None


def test_the_customers_address_is_in_the_fact_and_not_in_the_audit_event() -> None:
    (event,) = change_of(Action.PLACE, unplaced()).events
    assert read_fact(1, event.fact).data["address"]["street"] == "Oudegracht 1"
    assert b"Oudegracht" not in event.audit


def test_both_events_of_a_delivery_stand_one_after_the_other() -> None:
    order = order_in(State.PICKED_UP)
    first, second = change_of(Action.DELIVER, order).events
    assert (first.position, second.position) == (order.position + 1, order.position + 2)
    assert json.loads(second.audit)["prev_hash"] == json.loads(first.audit)["hash"]
    assert (first.action, second.action) == ("driver.delivered", "order.completed")


def test_an_order_of_another_identity_has_other_events() -> None:
    one, other = (change_of(Action.PLACE, unplaced()) for _ in range(2))
    assert one.events[0].event_id != other.events[0].event_id
    assert one.commands[0].event_id != other.commands[0].event_id


def test_the_causes_trace_is_handed_on() -> None:
    order: Order = order_in(State.RESTAURANT_NOTIFIED)
    cause = msgspec.structs.replace(cause_of(Action.ACCEPT, order), traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    change = decide(order, Wish(action=Action.ACCEPT), cause, NOW, wait)
    assert change.headers["traceparent"] == cause.traceparent
    assert change.headers["causationid"] == cause.id
    assert change.headers["correlationid"] == order.traceparent.split("-")[1]
