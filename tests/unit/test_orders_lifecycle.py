"""What may happen to an order, written down a second time by hand, and compared for the full product."""

import itertools

import pytest

from orders.commands import BODY_OF, CommandBody, command_body, read_command
from orders.errors import BadMessage, NotAllowed
from orders.facts import DATA, read_fact
from orders.lifecycle import GIVEN_UP, PLACE, TABLE, Action, Deadline, row_for
from orders.names import (
    AUDIT_TOPIC,
    FINAL,
    ORDERS_TOPIC,
    PRIORITY,
    PRIORITY_RETURNED,
    PRIORITY_URGENT,
    Command,
    Fact,
    Role,
    State,
    audit_action,
    queue_of,
)
from tests.making import WAY_TO, change_of, order_in, unplaced

STAYS = "stays"
CANCELLABLE = [
    "placed",
    "payment_processing",
    "payment_confirmed",
    "restaurant_notified",
    "restaurant_accepted",
    "restaurant_rejected",
    "driver_assigned",
    "picked_up",
]
PAID = [*CANCELLABLE[2:], "delivered", "payment_failed", "cancelled"]
EVERY = [*CANCELLABLE, "delivered", "payment_failed", "cancelled"]
TOLD = ["payment_confirmed", "restaurant_notified"]

# From DESIGN.md, not from the table: where each action leads, by the state it starts from.
EXPECTED: dict[str, dict[str, str]] = {
    "place": {},
    "begin payment": {"placed": "payment_processing"},
    "confirm payment": {"payment_processing": "payment_confirmed"},
    "confirm late payment": {"cancelled": STAYS, "payment_failed": STAYS},
    "fail payment": {"payment_processing": "payment_failed"},
    "give up payment": {"placed": "payment_failed", "payment_processing": "payment_failed"},
    "record refund": dict.fromkeys(PAID, STAYS),
    "notify restaurant": {"payment_confirmed": "restaurant_notified"},
    "accept": dict.fromkeys(TOLD, "restaurant_accepted"),
    "reject": dict.fromkeys(TOLD, "restaurant_rejected"),
    "reject items": dict.fromkeys(TOLD, "restaurant_rejected"),
    "give up restaurant": dict.fromkeys(TOLD, "restaurant_rejected"),
    "reroute": {"restaurant_rejected": "payment_confirmed"},
    "assign driver": {"restaurant_accepted": "driver_assigned"},
    "release driver": {"driver_assigned": "restaurant_accepted"},
    "escalate search": {"restaurant_accepted": STAYS},
    "pick up": {"driver_assigned": "picked_up"},
    "deliver": {"picked_up": "delivered"},
    "cancel": dict.fromkeys(CANCELLABLE, "cancelled"),
    "cancel for fraud": dict.fromkeys(CANCELLABLE, "cancelled"),
    "flag fraud": {"delivered": STAYS, "payment_failed": STAYS, "cancelled": STAYS},
    "open dispute": {"delivered": STAYS, "cancelled": STAYS},
    "resolve dispute": {"delivered": STAYS, "cancelled": STAYS},
    "intervene": dict.fromkeys(EVERY, STAYS),
}
WHO: dict[str, set[str]] = {
    "place": {"customer"},
    "accept": {"restaurant"},
    "reject": {"restaurant"},
    "reject items": {"restaurant"},
    "reroute": {"customer", "system"},
    "release driver": {"driver", "system"},
    "pick up": {"driver"},
    "deliver": {"driver"},
    "cancel": {"customer", "support", "operator", "system"},
    "open dispute": {"support"},
    "resolve dispute": {"support"},
    "intervene": {"support", "operator", "system"},
}
UNDONE_BY: dict[str, list[str]] = {
    "placed": [],
    "payment_processing": ["payment.refund"],
    "payment_confirmed": ["payment.refund", "restaurant.cancel"],
    "restaurant_notified": ["payment.refund", "restaurant.cancel"],
    "restaurant_accepted": ["payment.refund", "restaurant.cancel"],
    "restaurant_rejected": ["payment.refund"],
    "driver_assigned": ["payment.refund", "restaurant.cancel", "driver.release"],
    "picked_up": ["payment.refund", "restaurant.cancel", "driver.release"],
}


@pytest.mark.parametrize(("state", "action"), list(itertools.product(State, Action)))
def test_an_action_leads_where_the_design_says_and_is_refused_everywhere_else(state: State, action: Action) -> None:
    expected = EXPECTED[action.value].get(state.value)
    if expected is None:
        with pytest.raises(NotAllowed) as refused:
            row_for(action, state)
        assert (refused.value.action, refused.value.state) == (action.value, state.value)
    else:
        to = row_for(action, state).to
        assert (to.value if to else STAYS) == expected


@pytest.mark.parametrize("action", Action)
def test_only_who_the_design_names_may_do_it(action: Action) -> None:
    roles: set[str] = {role for row in TABLE if row.action is action for role in row.by}
    assert roles == WHO.get(action.value, {"system"})


def test_a_customer_cannot_cancel_what_was_picked_up() -> None:
    assert {state for state in State if state.value in CANCELLABLE and Role.CUSTOMER in row_for(Action.CANCEL, state).by} == {
        State(name) for name in CANCELLABLE
    } - {State.PICKED_UP}


def test_an_auditor_changes_nothing() -> None:
    assert not [row for row in TABLE if Role.AUDITOR in row.by]


@pytest.mark.parametrize("action", [Action.CANCEL, Action.CANCEL_FOR_FRAUD])
@pytest.mark.parametrize("state", CANCELLABLE)
def test_a_cancellation_undoes_what_its_stage_has_done(action: Action, state: str) -> None:
    assert list(row_for(action, State(state)).commands) == UNDONE_BY[state]


@pytest.mark.parametrize("state", State)
def test_every_state_is_reached_from_a_new_order(state: State) -> None:
    assert order_in(state).state is state
    assert set(WAY_TO) == set(State)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_is_never_left(state: State) -> None:
    leaving = [row.action for row in TABLE if state in row.start and row.to is not None]
    assert leaving == []


def test_every_row_that_leads_to_an_unfinished_state_sets_a_deadline() -> None:
    assert [row.action for row in TABLE if row.to is not None and row.to not in FINAL and row.deadline is None] == []


def test_a_final_order_waits_for_nothing_but_its_own_undoing() -> None:
    ends = [row for row in TABLE if row.to in FINAL]
    assert {row.deadline for row in ends} == {None, Deadline.STUCK}
    assert all((row.deadline is Deadline.STUCK) == bool(row.commands) for row in ends)


def test_no_action_has_two_rows_for_one_state() -> None:
    pairs = [(row.action, state) for row in TABLE for state in row.start]
    assert len(pairs) == len(set(pairs))


def test_every_action_has_a_row() -> None:
    assert {row.action for row in TABLE} == set(Action)
    assert PLACE.action is Action.PLACE


def test_every_step_of_an_order_is_published_by_some_row() -> None:
    no_steps = {Fact.NOTIFICATION_SENT, Fact.DRIVER_LOCATION_UPDATE}
    assert {fact for row in TABLE for fact in row.facts} == set(Fact) - no_steps
    assert all(row.facts for row in TABLE)


def test_a_delivery_is_two_events() -> None:
    assert row_for(Action.DELIVER, State.PICKED_UP).facts == (Fact.ORDER_DELIVERED, Fact.ORDER_COMPLETED)


def test_a_command_that_is_parked_for_good_has_an_action_that_the_system_may_take() -> None:
    for action in GIVEN_UP.values():
        assert any(Role.SYSTEM in row.by for row in TABLE if row.action is action)


@pytest.mark.parametrize("command", Command)
def test_every_command_has_a_priority_a_body_and_a_queue(command: Command) -> None:
    assert 0 <= PRIORITY[command] <= PRIORITY_URGENT
    assert BODY_OF[command] in CommandBody.__args__
    assert queue_of(command).value.startswith(command.value.split(".", maxsplit=1)[0])


def test_refunds_and_cancellations_come_before_what_returns_and_that_before_first_attempts() -> None:
    urgent = {Command.PAYMENT_REFUND, Command.ORDER_CANCEL, Command.RESTAURANT_CANCEL}
    assert {command for command, priority in PRIORITY.items() if priority > PRIORITY_RETURNED} == urgent
    assert PRIORITY_RETURNED not in PRIORITY.values()
    assert PRIORITY[Command.PAYMENT_CHARGE] > PRIORITY[Command.ORDER_DEADLINE]


@pytest.mark.parametrize(
    ("command", "queue"),
    [
        ("payment.charge", "payments"), ("payment.refund", "payments"), ("restaurant.notify", "restaurants"),
        ("restaurant.cancel", "restaurants"), ("driver.dispatch", "drivers"), ("driver.release", "drivers"),
        ("order.cancel", "orders"), ("order.deadline", "orders"), ("order.wake", "orders"), ("notification.push", "notifications"),
        ("notification.sms", "notifications"),
    ],
)  # fmt: skip
def test_a_command_goes_to_the_queue_of_its_kind(command: str, queue: str) -> None:
    assert queue_of(Command(command)).value == queue


def test_the_names_of_commands_and_facts_are_those_of_the_design() -> None:
    assert {c.value for c in Command} == {
        "payment.charge",
        "payment.refund",
        "restaurant.notify",
        "restaurant.cancel",
        "driver.dispatch",
        "driver.release",
        "order.cancel",
        "order.deadline",
        "order.wake",  # nobody's but ours: how the tiers wake a fact that a stream holds
        "notification.push",
        "notification.sms",
    }
    assert {f.value for f in Fact} == {
        "order.placed",
        "order.cancelled",
        "order.rerouted",
        "payment.processing",
        "payment.confirmed",
        "payment.failed",
        "payment.refunded",
        "restaurant.notified",
        "restaurant.accepted",
        "restaurant.rejected",
        "driver.assigned",
        "driver.released",
        "order.picked_up",
        "order.delivered",
        "order.completed",
        "fraud.detected",
        "dispute.opened",
        "dispute.resolved",
        "support.intervention",
        "notification.sent",
        "driver.location_update",
    }
    assert (ORDERS_TOPIC, AUDIT_TOPIC) == ("orders.events", "audit.events")


def test_three_facts_have_another_name_in_the_audit_trail() -> None:
    assert {fact.value: audit_action(fact) for fact in Fact if audit_action(fact) != fact.value} == {
        "payment.processing": "payment.initiated",
        "order.picked_up": "driver.picked_up",
        "order.delivered": "driver.delivered",
    }


def test_a_placed_order_says_all_that_the_design_promises() -> None:
    promised = {"items", "item_count", "subtotal", "delivery_fee", "total", "address", "payment_method_id"}
    assert set(DATA[Fact.ORDER_PLACED]) == promised


@pytest.mark.parametrize(
    ("kind", "version", "body", "problem"),
    [
        ("payment.steal", 1, b"{}", "no command 'payment.steal'"),
        ("payment.charge", 2, b"{}", "schema version 2"),
        ("payment.charge", 1, b"{", "payment.charge"),
        ("payment.charge", 1, b'{"order_id": "ord_1"}', "position"),
        ("payment.charge", 1, b'{"order_id": "\xff", "position": 1}', "payment.charge"),
        ("payment.refund", 1, b'{"order_id": "ord_1", "position": 1, "reason": 5}', "reason"),
    ],
)
def test_a_command_that_nobody_can_read_is_a_bad_message(kind: str, version: int, body: bytes, problem: str) -> None:
    with pytest.raises(BadMessage, match=problem):
        read_command(kind, version, body)


@pytest.mark.parametrize("state", State)
def test_every_command_that_is_issued_can_be_read_back(state: State) -> None:
    order = change_of(Action.PLACE, unplaced()).order
    for action in WAY_TO[state]:
        change = change_of(action, order)
        for row in change.commands:
            kind, body = read_command(row.type, row.schema_version, row.body)
            assert isinstance(body, BODY_OF[kind])
            assert (body.order_id, body.position) == (order.order_id, change.order.position)
        order = change.order


def test_a_body_has_only_what_its_type_has() -> None:
    given = {"order_id": "ord_1", "position": 3, "restaurant_id": "rst_1", "driver_id": "drv_1", "reason": "late"}
    assert command_body(Command.PAYMENT_CHARGE, given) == {"order_id": "ord_1", "position": 3}
    assert command_body(Command.DRIVER_RELEASE, given) == {k: v for k, v in given.items() if k != "restaurant_id"}


@pytest.mark.parametrize(("version", "body"), [(2, b"{}"), (1, b"nothing"), (1, b"{}"), (1, b"\xff\xfe")])
def test_a_fact_that_nobody_can_read_is_a_bad_message(version: int, body: bytes) -> None:
    with pytest.raises(BadMessage):
        read_fact(version, body)
