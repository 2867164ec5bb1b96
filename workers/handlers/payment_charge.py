"""`payment.charge`: takes an order's total, once. An unknown outcome is settled by looking, never by charging anew."""

from typing import Final, assert_never

from adapters.payments import (
    CardDeclined,
    FraudSuspected,
    InsufficientFunds,
    Intent,
    IntentUnexpectedState,
    OutcomeUnknown,
    Payments,
    ProcessingErrorDecline,
    declined,
)
from orders.commands import ChargePayment
from orders.decide import Wish
from orders.errors import RetryLater, Stale
from orders.failures import FailureType
from orders.lifecycle import Action
from orders.names import Money, State
from orders.order import Order
from workers.outcome import Done, Outcome, Remember, Step

_MOST_ATTEMPTS: Final = 3
_TRIES: Final = 2


class NotSettled(RetryLater):
    """The provider itself does not know yet how the charge ends."""

    slug = "payment-not-settled"
    failure = FailureType.PAYMENT_TIMEOUT


async def payment_charge(command: ChargePayment, order: Order, payments: Payments, *, again: bool) -> Outcome:
    """`again` False: this delivery has just begun the payment, so nobody can have confirmed it yet."""
    if order.state is State.PLACED:
        intent = await payments.create(command.order_id, order.total, order.currency, order.payment_method_id)
        known = {"payment_intent_id": intent.id}
        return Step(Wish(action=Action.BEGIN_PAYMENT, changes=known, data=known))
    if order.state is not State.PAYMENT_PROCESSING or order.payment_intent_id is None:
        raise Stale(f"the order is {order.state.value}; what was charged is the refund's business")
    look = again
    for _ in range(_TRIES):
        if look and (outcome := _settled(await payments.retrieve(order.payment_intent_id), order)) is not None:
            return outcome
        try:
            intent = await payments.confirm(
                order.payment_intent_id, order.order_id, order.payment_attempt, order.payment_method_id
            )
        except (CardDeclined, ProcessingErrorDecline) as decline:
            return _declined(decline, order)
        except (OutcomeUnknown, IntentUnexpectedState) as unknown:
            look, doubt = True, unknown
        else:
            return _settled(intent, order) or _unsettled(intent)
    raise doubt


def _settled(intent: Intent, order: Order) -> Outcome | None:
    """What the provider's own record says of the charge. None: it is not confirmed, and may be with this attempt's key."""
    match intent.status:
        case "succeeded":
            return Done(
                Wish(
                    action=Action.CONFIRM_PAYMENT,
                    changes={"money": Money.CAPTURED, "captured": intent.captured_minor},
                    data={"payment_intent_id": intent.id, "amount": intent.captured_minor},
                )
            )
        case "requires_payment_method":
            decline = declined(intent.decline) if intent.decline else None
            return _declined(decline, order) if isinstance(decline, CardDeclined) else None
        case "canceled":
            return _failed("payment_declined", "canceled")
        case "requires_action":
            return _failed("payment_declined", "authentication_required")  # nobody is there to act
        case "requires_confirmation":
            return None
        case "processing" | "requires_capture":
            return _unsettled(intent)
        case _:
            assert_never(intent.status)


def _unsettled(intent: Intent) -> Outcome:
    raise NotSettled(f"{intent.id} is {intent.status}")


def _declined(decline: CardDeclined | ProcessingErrorDecline, order: Order) -> Outcome:
    match decline:
        case ProcessingErrorDecline() if order.payment_attempt < _MOST_ATTEMPTS:
            return Remember(order.payment_attempt + 1, decline)
        case InsufficientFunds():
            return _failed("insufficient_funds", decline.code)
        case FraudSuspected():
            return _failed("payment_fraud", decline.code)
        case _:
            return _failed("payment_declined", decline.code)


def _failed(reason: str, code: str) -> Outcome:
    return Done(Wish(action=Action.FAIL_PAYMENT, reason=reason, data={"decline_code": code}))
