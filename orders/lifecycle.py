"""The only place that says what may happen to an order: one table, one row per action and stage.

Each row: the states it starts from, the state it leads to, who may do it, the facts it publishes (each is also an audit
action), the commands it issues, the deadline it sets. Nothing else in the system compares states to decide legality.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from orders.errors import NotAllowed
from orders.failures import FailureType
from orders.names import FINAL, Command, Fact, Role, State

S, F, C, R = State, Fact, Command, Role


class Action(StrEnum):
    """What can be done to an order."""

    PLACE = "place"
    BEGIN_PAYMENT = "begin payment"
    CONFIRM_PAYMENT = "confirm payment"
    CONFIRM_LATE_PAYMENT = "confirm late payment"
    FAIL_PAYMENT = "fail payment"
    GIVE_UP_PAYMENT = "give up payment"
    RECORD_REFUND = "record refund"
    NOTIFY_RESTAURANT = "notify restaurant"
    ACCEPT = "accept"
    REJECT = "reject"
    REJECT_ITEMS = "reject items"
    GIVE_UP_RESTAURANT = "give up restaurant"
    REROUTE = "reroute"
    ASSIGN_DRIVER = "assign driver"
    RELEASE_DRIVER = "release driver"
    ESCALATE_SEARCH = "escalate search"
    PICK_UP = "pick up"
    DELIVER = "deliver"
    CANCEL = "cancel"
    CANCEL_FOR_FRAUD = "cancel for fraud"
    FLAG_FRAUD = "flag fraud"
    OPEN_DISPUTE = "open dispute"
    RESOLVE_DISPUTE = "resolve dispute"
    INTERVENE = "intervene"


class Deadline(StrEnum):
    """What an order waits for. `stuck`: its pending commands are issued again, with the same identity."""

    STUCK = "stuck"
    RESTAURANT_ANSWER = "restaurant_answer"
    DRIVER_SEARCH = "driver_search"
    DRIVER_ESCALATION = "driver_escalation"
    PICK_UP = "pick_up"
    DELIVERY = "delivery"
    CUSTOMER_DECISION = "customer_decision"


class Row(msgspec.Struct, frozen=True):
    """One line of the table. `to` None: the state stays, its pending commands too, and its deadline unless the row sets one."""

    action: Action
    start: frozenset[State]
    to: State | None
    by: frozenset[Role]
    facts: tuple[Fact, ...]
    commands: tuple[Command, ...] = ()
    deadline: Deadline | None = None


def _row(  # the table below reads as columns
    action: Action,
    start: set[State] | frozenset[State],
    to: State | None,
    by: set[Role],
    facts: tuple[Fact, ...],
    commands: tuple[Command, ...] = (),
    deadline: Deadline | None = None,
) -> Row:
    return Row(action, frozenset(start), to, frozenset(by), facts, commands, deadline)


_A, _D = Action, Deadline
_SYSTEM: Final = {R.SYSTEM}
_STAFF: Final = {R.SUPPORT, R.OPERATOR}
_PAID: Final = frozenset(S) - {S.PLACED, S.PAYMENT_PROCESSING}

# Cancellation from each stage before delivery, and what undoes that stage. All that was captured goes back, always.
_CANCELLATIONS: Final[tuple[tuple[State, set[Role], tuple[Command, ...]], ...]] = (
    (S.PLACED, {R.CUSTOMER}, ()),  # money moves only after payment has begun
    (S.PAYMENT_PROCESSING, {R.CUSTOMER}, (C.PAYMENT_REFUND,)),  # outcome unknown: settled, then cancelled or refunded
    (S.PAYMENT_CONFIRMED, {R.CUSTOMER}, (C.PAYMENT_REFUND, C.RESTAURANT_CANCEL)),  # the webhook may be under way
    (S.RESTAURANT_NOTIFIED, {R.CUSTOMER}, (C.PAYMENT_REFUND, C.RESTAURANT_CANCEL)),
    (S.RESTAURANT_ACCEPTED, {R.CUSTOMER}, (C.PAYMENT_REFUND, C.RESTAURANT_CANCEL)),
    (S.RESTAURANT_REJECTED, {R.CUSTOMER}, (C.PAYMENT_REFUND,)),
    (S.DRIVER_ASSIGNED, {R.CUSTOMER}, (C.PAYMENT_REFUND, C.RESTAURANT_CANCEL, C.DRIVER_RELEASE)),
    (S.PICKED_UP, set(), (C.PAYMENT_REFUND, C.RESTAURANT_CANCEL, C.DRIVER_RELEASE)),  # too late for the customer
)

TABLE: Final[tuple[Row, ...]] = (
    _row(_A.PLACE, set(), S.PLACED, {R.CUSTOMER}, (F.ORDER_PLACED,), (C.PAYMENT_CHARGE,), _D.STUCK),
    # Payment.
    _row(_A.BEGIN_PAYMENT, {S.PLACED}, S.PAYMENT_PROCESSING, _SYSTEM, (F.PAYMENT_PROCESSING,), (), _D.STUCK),
    _row(_A.CONFIRM_PAYMENT, {S.PAYMENT_PROCESSING}, S.PAYMENT_CONFIRMED, _SYSTEM,
         (F.PAYMENT_CONFIRMED,), (C.RESTAURANT_NOTIFY,), _D.STUCK),
    _row(_A.FAIL_PAYMENT, {S.PAYMENT_PROCESSING}, S.PAYMENT_FAILED, _SYSTEM, (F.PAYMENT_FAILED,)),
    # Attempts are spent and the outcome is unknown: the refund command settles it once the provider answers.
    _row(_A.GIVE_UP_PAYMENT, {S.PLACED, S.PAYMENT_PROCESSING}, S.PAYMENT_FAILED, _SYSTEM,
         (F.PAYMENT_FAILED,), (C.PAYMENT_REFUND,), _D.STUCK),
    # The provider took money for an order that has ended meanwhile: it is tracked, and goes back.
    _row(_A.CONFIRM_LATE_PAYMENT, {S.CANCELLED, S.PAYMENT_FAILED}, None, _SYSTEM, (F.PAYMENT_CONFIRMED,)),
    _row(_A.RECORD_REFUND, _PAID, None, _SYSTEM, (F.PAYMENT_REFUNDED,)),
    # Restaurant. Its answer may overtake our own record of having told it.
    _row(_A.NOTIFY_RESTAURANT, {S.PAYMENT_CONFIRMED}, S.RESTAURANT_NOTIFIED, _SYSTEM,
         (F.RESTAURANT_NOTIFIED,), (), _D.RESTAURANT_ANSWER),
    _row(_A.ACCEPT, {S.PAYMENT_CONFIRMED, S.RESTAURANT_NOTIFIED}, S.RESTAURANT_ACCEPTED, {R.RESTAURANT},
         (F.RESTAURANT_ACCEPTED,), (C.DRIVER_DISPATCH,), _D.DRIVER_SEARCH),
    # `order.cancel` looks for another restaurant first, unless it is closing time.
    _row(_A.REJECT, {S.PAYMENT_CONFIRMED, S.RESTAURANT_NOTIFIED}, S.RESTAURANT_REJECTED, {R.RESTAURANT},
         (F.RESTAURANT_REJECTED,), (C.ORDER_CANCEL,), _D.STUCK),
    # It did not answer, or could not be reached: as rejected, and told so, since it may have heard of the order.
    _row(_A.GIVE_UP_RESTAURANT, {S.PAYMENT_CONFIRMED, S.RESTAURANT_NOTIFIED}, S.RESTAURANT_REJECTED, _SYSTEM,
         (F.RESTAURANT_REJECTED,), (C.ORDER_CANCEL, C.RESTAURANT_CANCEL), _D.STUCK),
    _row(_A.REJECT_ITEMS, {S.PAYMENT_CONFIRMED, S.RESTAURANT_NOTIFIED}, S.RESTAURANT_REJECTED, {R.RESTAURANT},
         (F.RESTAURANT_REJECTED,), (), _D.CUSTOMER_DECISION),
    _row(_A.REROUTE, {S.RESTAURANT_REJECTED}, S.PAYMENT_CONFIRMED, {R.CUSTOMER, R.SYSTEM},
         (F.ORDER_REROUTED,), (C.RESTAURANT_NOTIFY,), _D.STUCK),
    # Driver.
    _row(_A.ASSIGN_DRIVER, {S.RESTAURANT_ACCEPTED}, S.DRIVER_ASSIGNED, _SYSTEM, (F.DRIVER_ASSIGNED,), (), _D.PICK_UP),
    _row(_A.RELEASE_DRIVER, {S.DRIVER_ASSIGNED}, S.RESTAURANT_ACCEPTED, {R.DRIVER, R.SYSTEM},
         (F.DRIVER_RELEASED,), (C.DRIVER_RELEASE, C.DRIVER_DISPATCH), _D.DRIVER_SEARCH),
    # Nobody was found in time: support looks too, the search goes on, and only its second deadline ends the order.
    _row(_A.ESCALATE_SEARCH, {S.RESTAURANT_ACCEPTED}, None, _SYSTEM, (F.SUPPORT_INTERVENTION,), (), _D.DRIVER_ESCALATION),
    _row(_A.PICK_UP, {S.DRIVER_ASSIGNED}, S.PICKED_UP, {R.DRIVER}, (F.ORDER_PICKED_UP,), (), _D.DELIVERY),
    _row(_A.DELIVER, {S.PICKED_UP}, S.DELIVERED, {R.DRIVER}, (F.ORDER_DELIVERED, F.ORDER_COMPLETED)),
    # Cancellation, by a person or because of fraud.
    *(
        _row(_A.CANCEL, {stage}, S.CANCELLED, by | _STAFF | _SYSTEM, (F.ORDER_CANCELLED,), undo, _D.STUCK if undo else None)
        for stage, by, undo in _CANCELLATIONS
    ),
    *(
        _row(_A.CANCEL_FOR_FRAUD, {stage}, S.CANCELLED, _SYSTEM, (F.FRAUD_DETECTED, F.ORDER_CANCELLED), undo,
             _D.STUCK if undo else None)
        for stage, _, undo in _CANCELLATIONS
    ),
    # What is recorded beside the way of the order.
    _row(_A.FLAG_FRAUD, FINAL, None, _SYSTEM, (F.FRAUD_DETECTED,)),
    _row(_A.OPEN_DISPUTE, {S.DELIVERED, S.CANCELLED}, None, {R.SUPPORT}, (F.DISPUTE_OPENED,)),
    _row(_A.RESOLVE_DISPUTE, {S.DELIVERED, S.CANCELLED}, None, {R.SUPPORT}, (F.DISPUTE_RESOLVED,)),
    _row(_A.INTERVENE, frozenset(S), None, _STAFF | _SYSTEM, (F.SUPPORT_INTERVENTION,)),
)  # fmt: skip

# What becomes of an order whose command was parked for good. Types that are not named wait for an operator.
GIVEN_UP: Final = {
    C.PAYMENT_CHARGE: _A.GIVE_UP_PAYMENT,
    C.RESTAURANT_NOTIFY: _A.GIVE_UP_RESTAURANT,
    C.DRIVER_DISPATCH: _A.CANCEL,
}

# Which actions are a failure of the order that the same row answers, by the reason given; None: for any other reason.
# An action that is not named is no failure, whatever its reason.
FAILURES: Final[Mapping[Action, Mapping[str | None, FailureType]]] = {
    _A.FAIL_PAYMENT: {
        "insufficient_funds": FailureType.INSUFFICIENT_FUNDS,
        "payment_fraud": FailureType.PAYMENT_FRAUD,
        None: FailureType.PAYMENT_DECLINED,
    },
    _A.GIVE_UP_PAYMENT: {None: FailureType.PAYMENT_TIMEOUT},
    _A.REJECT: {
        "closing_time": FailureType.RESTAURANT_CLOSED,
        "closed": FailureType.RESTAURANT_CLOSED,
        "restaurant_closed": FailureType.RESTAURANT_CLOSED,
        None: FailureType.RESTAURANT_REJECTED,
    },
    _A.REJECT_ITEMS: {None: FailureType.ITEM_UNAVAILABLE},
    _A.GIVE_UP_RESTAURANT: {None: FailureType.RESTAURANT_TIMEOUT},
    _A.RELEASE_DRIVER: {"no_show": FailureType.DRIVER_NO_SHOW},
    _A.CANCEL: {"no_driver": FailureType.DRIVER_UNAVAILABLE},
    _A.CANCEL_FOR_FRAUD: {None: FailureType.PAYMENT_FRAUD},
}

_BY_STAGE: Final = {(row.action, state): row for row in TABLE for state in row.start}
PLACE: Final = TABLE[0]


def row_for(action: Action, state: State) -> Row:
    """The row for this action from this state. Raises `NotAllowed` where there is none."""
    row = _BY_STAGE.get((action, state))
    if row is None:
        raise NotAllowed(action.value, state.value)
    return row


def failure_of(action: Action, reason: str | None) -> FailureType | None:
    """What operators call this outcome of an order. None where nothing failed."""
    reasons = FAILURES.get(action)
    if reasons is None:
        return None
    return reasons[reason] if reason in reasons else reasons.get(None)


def diagram() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", f"    [*] --> {S.PLACED.value}"]
    for row in TABLE:
        if row.to is not None:
            lines += [f"    {state.value} --> {row.to.value}: {row.action.value}" for state in sorted(row.start)]
    lines += [f"    {state.value} --> [*]" for state in sorted(FINAL)]
    return "\n".join(lines) + "\n"
