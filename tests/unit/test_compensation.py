"""Whatever was done for an order is undone once, wherever it ends; and every failure that is answered has a name."""

from collections import Counter

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from orders.decide import Change, decide
from orders.failures import CATEGORY, FailureType
from orders.lifecycle import FAILURES, GIVEN_UP, TABLE, Action, Deadline, failure_of, row_for
from orders.names import FINAL, Command, State
from orders.order import Order
from tests.making import NOW, cause_of, change_of, order_in, unplaced, wait, wish_of

REFUSALS = {Action.REJECT, Action.REJECT_ITEMS}
BY_STATE = {state: [row.action for row in TABLE if state in row.start and row.to is not None] for state in State}
CANCELLABLE = [state for state in State if Action.CANCEL in BY_STATE[state]]


class World:
    """An order, and what the people around it have been asked for and not been told to forget."""

    def __init__(self) -> None:
        self.order = unplaced()
        self.cooking: set[str] = set()  # restaurants that may have heard of it, and did not refuse it themselves
        self.driving: set[str] = set()
        self.undone: Counter[str] = Counter()
        self.apply(change_of(Action.PLACE, self.order))

    def do(self, action: Action) -> None:
        wish, order = wish_of(action, self.order), self.order
        if action in REFUSALS:
            self.cooking.discard(order.restaurant_id)
        if action is Action.REROUTE:
            wish = msgspec.structs.replace(wish, changes={"restaurant_id": f"rst_{order.position}"})
        if action is Action.ASSIGN_DRIVER:
            wish = msgspec.structs.replace(wish, changes={"driver_id": f"drv_{order.position}"})
        self.apply(decide(order, wish, cause_of(action, order), NOW, wait))
        if action is Action.ASSIGN_DRIVER:
            self.driving.add(self.order.driver_id or "")
        if action is Action.DELIVER:
            self.driving.clear()
            self.cooking.clear()

    def apply(self, change: Change) -> None:
        self.order = change.order
        for row in change.commands:
            body = msgspec.json.decode(row.body)
            match row.type:
                case Command.RESTAURANT_NOTIFY:
                    self.cooking.add(body["restaurant_id"])
                case Command.RESTAURANT_CANCEL:
                    self._undo(self.cooking, body["restaurant_id"])
                case Command.DRIVER_RELEASE:
                    self._undo(self.driving, body["driver_id"])
                case _:
                    pass

    def _undo(self, asked: set[str], who: str) -> None:
        assert who in asked, f"{who} is told to forget what they were not asked for, or were told before"
        asked.remove(who)
        self.undone[who] += 1


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_wherever_an_order_ends_all_that_was_asked_for_is_called_off_once(data: st.DataObject) -> None:
    world = World()
    for _ in range(data.draw(st.integers(0, 20), "steps")):
        if world.order.state in FINAL:
            break
        world.do(data.draw(st.sampled_from(BY_STATE[world.order.state])))
        assert world.order.state in FINAL or world.cooking <= {world.order.restaurant_id}  # never two kitchens at once
    if world.order.state not in FINAL:
        world.do(data.draw(st.sampled_from([Action.CANCEL, Action.CANCEL_FOR_FRAUD])))
    assert (world.cooking, world.driving) == (set(), set())
    assert all(times == 1 for times in world.undone.values())


@pytest.mark.parametrize("action", [Action.CANCEL, Action.CANCEL_FOR_FRAUD])
@pytest.mark.parametrize("state", CANCELLABLE)
def test_a_cancellation_takes_back_money_as_soon_as_a_payment_has_begun(state: State, action: Action) -> None:
    refund = Command.PAYMENT_REFUND in row_for(action, state).commands
    assert refund == (state is not State.PLACED)


def _telling(order: Order) -> dict[str, str]:
    return {entry.type: entry.body.get("restaurant_id", "") for entry in order.pending.values()}


def test_a_restaurant_that_lost_the_order_is_still_told_so_after_another_has_it() -> None:
    order = change_of(Action.GIVE_UP_RESTAURANT, order_in(State.RESTAURANT_NOTIFIED)).order
    wish = msgspec.structs.replace(wish_of(Action.REROUTE, order), changes={"restaurant_id": "rst_new"})
    after = decide(order, wish, cause_of(Action.REROUTE, order), NOW, wait).order
    assert _telling(after) == {"restaurant.cancel": order.restaurant_id, "restaurant.notify": "rst_new"}


@pytest.mark.parametrize("action", Action)
def test_every_action_is_a_failure_with_a_name_or_none(action: Action) -> None:
    """Total: an action that is new must be put into one of the two."""
    never = {
        Action.PLACE, Action.BEGIN_PAYMENT, Action.CONFIRM_PAYMENT, Action.CONFIRM_LATE_PAYMENT, Action.RECORD_REFUND,
        Action.NOTIFY_RESTAURANT, Action.ACCEPT, Action.REROUTE, Action.ASSIGN_DRIVER, Action.ESCALATE_SEARCH, Action.PICK_UP,
        Action.DELIVER, Action.FLAG_FRAUD, Action.OPEN_DISPUTE, Action.RESOLVE_DISPUTE, Action.INTERVENE,
    }  # fmt: skip
    assert (action in FAILURES) != (action in never)
    assert all(failure in CATEGORY for failure in FAILURES.get(action, {}).values())


@pytest.mark.parametrize(
    ("action", "reason", "failure"),
    [
        (Action.FAIL_PAYMENT, "payment_declined", "payment_declined"),
        (Action.FAIL_PAYMENT, "insufficient_funds", "insufficient_funds"),
        (Action.FAIL_PAYMENT, "payment_fraud", "payment_fraud"),
        (Action.GIVE_UP_PAYMENT, "payment_timeout", "payment_timeout"),
        (Action.REJECT, "closing_time", "restaurant_closed"),
        (Action.REJECT, "closed", "restaurant_closed"),
        (Action.REJECT, "whatever they write", "restaurant_rejected"),
        (Action.REJECT_ITEMS, "sold_out", "item_unavailable"),
        (Action.GIVE_UP_RESTAURANT, "restaurant_timeout", "restaurant_timeout"),
        (Action.GIVE_UP_RESTAURANT, "restaurant_unreachable", "restaurant_timeout"),
        (Action.RELEASE_DRIVER, "no_show", "driver_no_show"),
        (Action.CANCEL, "no_driver", "driver_unavailable"),
        (Action.CANCEL_FOR_FRAUD, "fraud", "payment_fraud"),
        (Action.RELEASE_DRIVER, "flat tyre", None),
        (Action.CANCEL, "customer_request: no_driver", None),
        (Action.CANCEL, "item_unavailable", None),
        (Action.CANCEL, None, None),
    ],
)
def test_a_failure_is_called_by_what_was_done_and_why(action: Action, reason: str | None, failure: str | None) -> None:
    assert failure_of(action, reason) == (FailureType(failure) if failure else None)


@pytest.mark.parametrize("kind", GIVEN_UP)
def test_what_is_given_up_is_a_failure(kind: Command) -> None:
    assert failure_of(GIVEN_UP[kind], "no_driver" if kind is Command.DRIVER_DISPATCH else None) is not None


def test_an_escalated_search_keeps_what_it_waits_for_and_gets_a_deadline_of_its_own() -> None:
    order = order_in(State.RESTAURANT_ACCEPTED)
    escalated = change_of(Action.ESCALATE_SEARCH, order).order
    assert (escalated.state, escalated.pending) == (order.state, order.pending)
    assert (escalated.deadline, escalated.deadline_position) == (Deadline.DRIVER_ESCALATION, escalated.position)
    assert change_of(Action.ESCALATE_SEARCH, order).failure is None
