"""Which commands come too late for their order, and which are owed whatever became of it."""

from typing import Any

import pytest

from orders.lifecycle import Deadline
from orders.names import FINAL, Command, State
from orders.order import Pending
from outbox.letters.superseding import OrderNow, is_superseded


def order(state: State, *pending: tuple[str, Command], **values: Any) -> OrderNow:
    waiting = {key: Pending(kind.value, {}) for key, kind in pending}
    return OrderNow(state=state, pending=waiting, **{"deadline": None, "deadline_position": None, **values})


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (Command.PAYMENT_CHARGE, State.PAYMENT_FAILED),
        (Command.PAYMENT_CHARGE, State.CANCELLED),
        (Command.RESTAURANT_NOTIFY, State.RESTAURANT_REJECTED),
        (Command.RESTAURANT_NOTIFY, State.CANCELLED),
        (Command.DRIVER_DISPATCH, State.CANCELLED),
        (Command.DRIVER_DISPATCH, State.DRIVER_ASSIGNED),
        (Command.ORDER_CANCEL, State.CANCELLED),
    ],
)
def test_a_command_whose_stage_has_passed_is_superseded(kind: Command, state: State) -> None:
    assert is_superseded(kind, "cmd_1", {}, order(state))


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (Command.PAYMENT_CHARGE, State.PLACED),
        (Command.PAYMENT_CHARGE, State.PAYMENT_PROCESSING),
        (Command.RESTAURANT_NOTIFY, State.PAYMENT_CONFIRMED),
        (Command.DRIVER_DISPATCH, State.RESTAURANT_ACCEPTED),
        (Command.ORDER_CANCEL, State.RESTAURANT_NOTIFIED),
    ],
)
def test_a_command_that_its_order_can_still_use_is_not(kind: Command, state: State) -> None:
    assert not is_superseded(kind, "cmd_1", {}, order(state))


@pytest.mark.parametrize(
    "owed",
    [
        Command.PAYMENT_REFUND,
        Command.RESTAURANT_CANCEL,
        Command.DRIVER_RELEASE,
        Command.NOTIFICATION_SMS,
        Command.NOTIFICATION_PUSH,
    ],
)
@pytest.mark.parametrize("state", sorted(FINAL))
def test_what_undoes_an_order_and_what_people_are_told_is_owed_after_its_end(owed: Command, state: State) -> None:
    assert not is_superseded(owed, "cmd_1", {}, order(state))


def test_a_command_that_its_order_waits_for_is_not_superseded_whatever_the_state() -> None:
    waiting = order(State.CANCELLED, ("cmd_1", Command.PAYMENT_CHARGE))
    assert not is_superseded(Command.PAYMENT_CHARGE, "cmd_1", {}, waiting)


def test_a_restaurant_is_not_told_once_another_one_is_to_be() -> None:
    rerouted = order(State.PAYMENT_CONFIRMED, ("cmd_2", Command.RESTAURANT_NOTIFY))
    assert is_superseded(Command.RESTAURANT_NOTIFY, "cmd_1", {}, rerouted)


def test_fraud_is_recorded_even_after_the_end() -> None:
    assert not is_superseded(Command.ORDER_CANCEL, "cmd_1", {"reason": "fraud"}, order(State.DELIVERED))


def test_what_one_restaurant_said_does_not_end_what_another_cooks() -> None:
    assert is_superseded(Command.ORDER_CANCEL, "cmd_1", {"reason": "restaurant_rejected"}, order(State.RESTAURANT_ACCEPTED))


def test_a_deadline_is_superseded_once_its_order_waits_for_something_else() -> None:
    body = {"kind": "pick_up", "position": 7}
    waits = order(State.DRIVER_ASSIGNED, deadline=Deadline.PICK_UP, deadline_position=7)
    moved = order(State.DRIVER_ASSIGNED, deadline=Deadline.PICK_UP, deadline_position=9)
    assert not is_superseded(Command.ORDER_DEADLINE, "cmd_1", body, waits)
    assert is_superseded(Command.ORDER_DEADLINE, "cmd_1", body, moved)
