"""Charging and refunding, against a provider that keeps its promises and one that does not answer."""

from typing import Any

import msgspec
import pytest

from adapters.payments import CardDeclined, IntentUnexpectedState, OutcomeUnknown, ProcessingErrorDecline
from orders.commands import ChargePayment, RefundPayment
from orders.errors import NotAllowed, RetryLater, Stale
from orders.lifecycle import Action
from orders.names import Money, State
from orders.order import Order
from tests.fake_ports import FakePayments
from tests.making import order_in
from workers.handlers.payment_charge import NotSettled, payment_charge
from workers.handlers.payment_refund import ChargeNotSettled, RefundFailed, UnknownRefundReason, payment_refund
from workers.outcome import Done, Nothing, Outcome, Remember, Step

INTENT = "pi_1"


def _order(state: State, **values: Any) -> Order:
    return msgspec.structs.replace(order_in(state), payment_intent_id=INTENT, **values)


def _processing(card: str = "pm_card_visa", **values: Any) -> Order:
    return _order(State.PAYMENT_PROCESSING, payment_method_id=card, **values)


async def _charge(order: Order, payments: FakePayments, *, again: bool = False) -> Outcome:
    return await payment_charge(ChargePayment(order_id=order.order_id, position=1), order, payments, again=again)


async def _refund(order: Order, payments: FakePayments, reason: str = "cancelled", amount: int = 0) -> Outcome:
    command = RefundPayment(order_id=order.order_id, position=order.position, reason=reason, amount=amount)
    return await payment_refund(command, order, payments)


@pytest.fixture
def payments() -> FakePayments:
    """With one intent, unconfirmed."""
    payments = FakePayments()
    payments.has(INTENT, "requires_confirmation")
    return payments


async def test_the_intent_is_stored_before_anything_is_charged(payments: FakePayments) -> None:
    order = order_in(State.PLACED)
    outcome = await _charge(order, payments, again=True)
    assert isinstance(outcome, Step)
    assert (outcome.wish.action, outcome.wish.changes) == (Action.BEGIN_PAYMENT, {"payment_intent_id": f"pi_{order.order_id}"})
    assert [call[0] for call in payments.calls] == ["create"]


async def test_a_payment_that_was_just_begun_is_confirmed_without_a_look(payments: FakePayments) -> None:
    outcome = await _charge(_processing(), payments)
    assert isinstance(outcome, Done)
    assert (outcome.wish.action, outcome.wish.changes) == (Action.CONFIRM_PAYMENT, {"money": Money.CAPTURED, "captured": 3_200})
    assert [call[0] for call in payments.calls] == ["confirm"]


async def test_a_payment_that_somebody_may_have_confirmed_is_looked_at_first(payments: FakePayments) -> None:
    payments.has(INTENT, "succeeded")
    outcome = await _charge(_processing(), payments, again=True)
    assert isinstance(outcome, Done)
    assert outcome.wish.action is Action.CONFIRM_PAYMENT
    assert not payments.named("confirm")


@pytest.mark.parametrize(
    ("card", "reason", "code"),
    [
        ("pm_declined", "payment_declined", "generic_decline"),
        ("pm_poor", "insufficient_funds", "insufficient_funds"),
        ("pm_thief", "payment_fraud", "fraudulent"),
    ],
)
@pytest.mark.parametrize("again", [False, True])
async def test_a_definite_decline_ends_the_order_with_its_reason(
    payments: FakePayments, card: str, reason: str, code: str, *, again: bool
) -> None:
    if again:  # the worker was killed between the decline and the commit
        payments.has(INTENT, "requires_payment_method", decline=code)
    outcome = await _charge(_processing(card), payments, again=again)
    assert isinstance(outcome, Done)
    assert (outcome.wish.action, outcome.wish.reason, outcome.wish.data) == (
        Action.FAIL_PAYMENT, reason, {"decline_code": code},
    )  # fmt: skip
    assert len(payments.named("confirm")) == (0 if again else 1)


async def test_a_card_that_is_declined_for_now_is_tried_with_the_next_number_and_three_times_at_most(
    payments: FakePayments,
) -> None:
    for attempt in (1, 2):
        outcome = await _charge(_processing("pm_flaky", payment_attempt=attempt), payments, again=attempt > 1)
        assert isinstance(outcome, Remember)
        assert outcome.payment_attempt == attempt + 1
        assert isinstance(outcome.then, ProcessingErrorDecline)
    last = await _charge(_processing("pm_flaky", payment_attempt=3), payments, again=True)
    assert isinstance(last, Done)
    assert (last.wish.action, last.wish.reason) == (Action.FAIL_PAYMENT, "payment_declined")
    assert [attempt for _, attempt in payments.named("confirm")] == [1, 2, 3]


@pytest.mark.parametrize("doubt", [OutcomeUnknown("lost"), IntentUnexpectedState(INTENT)])
async def test_a_lost_answer_is_settled_by_looking(payments: FakePayments, doubt: Exception) -> None:
    payments.after["confirm"] = [doubt]
    outcome = await _charge(_processing(), payments)
    assert isinstance(outcome, Done)
    assert outcome.wish.action is Action.CONFIRM_PAYMENT
    assert [call[0] for call in payments.calls] == ["confirm", "retrieve"]


async def test_a_charge_that_never_arrived_is_made_with_the_same_number(payments: FakePayments) -> None:
    payments.before["confirm"] = [OutcomeUnknown("lost")]
    assert isinstance(await _charge(_processing(), payments), Done)
    assert [attempt for _, attempt in payments.named("confirm")] == [1, 1]


async def test_a_provider_that_never_says_leaves_the_charge_for_later(payments: FakePayments) -> None:
    payments.always["confirm"] = OutcomeUnknown("lost")
    with pytest.raises(OutcomeUnknown):
        await _charge(_processing(), payments)
    payments.has(INTENT, "processing")
    with pytest.raises(NotSettled):
        await _charge(_processing(), payments, again=True)


@pytest.mark.parametrize("state", [s for s in State if s not in (State.PLACED, State.PAYMENT_PROCESSING)])
async def test_a_charge_for_an_order_that_is_past_it_is_stale_and_touches_nothing(payments: FakePayments, state: State) -> None:
    with pytest.raises(Stale):
        await _charge(_order(state), payments, again=True)
    assert not payments.calls


async def test_an_order_that_never_began_to_pay_has_nothing_to_give_back(payments: FakePayments) -> None:
    assert await _refund(msgspec.structs.replace(order_in(State.CANCELLED), payment_intent_id=None), payments) == Nothing()
    assert not payments.calls


async def test_all_that_was_captured_goes_back(payments: FakePayments) -> None:
    payments.has(INTENT, "succeeded")
    outcome = await _refund(_order(State.CANCELLED), payments)
    assert isinstance(outcome, Done)
    assert (outcome.wish.action, outcome.wish.changes) == (Action.RECORD_REFUND, {"refunded": 3_200, "money": Money.REFUNDED})
    assert outcome.wish.data == {
        "refund_id": "re_cancelled", "refund_reason": "cancelled", "amount": 3_200, "refunded_total": 3_200,
    }  # fmt: skip
    assert payments.named("refund") == [(INTENT, "cancelled", 3_200, False)]


async def test_a_part_goes_back_and_the_rest_is_still_held(payments: FakePayments) -> None:
    payments.has(INTENT, "succeeded")
    outcome = await _refund(_order(State.DELIVERED), payments, "dispute_late")
    assert isinstance(outcome, Done)
    assert outcome.wish.changes == {"refunded": 300, "money": Money.PART_REFUNDED}


async def test_a_refund_that_was_made_but_not_recorded_is_looked_for(payments: FakePayments) -> None:
    payments.has(INTENT, "succeeded")
    payments.after["refund"] = [OutcomeUnknown("lost")]
    order = _order(State.CANCELLED)
    with pytest.raises(OutcomeUnknown):
        await _refund(order, payments)
    assert isinstance(await _refund(order, payments), Done)
    assert [settle for *_, settle in payments.named("refund")] == [False, True]
    assert payments.intents[INTENT].refunded_minor == 3_200


async def test_what_is_refunded_already_is_not_refunded_again(payments: FakePayments) -> None:
    payments.has(INTENT, "succeeded", refunded_minor=3_200)
    assert await _refund(_order(State.CANCELLED, refunded=3_200, money=Money.REFUNDED), payments) == Nothing()
    assert not payments.named("refund")


_BROKE = {"money": Money.NONE, "captured": 0}


async def test_money_that_came_after_the_end_is_recorded_first(payments: FakePayments) -> None:
    payments.has(INTENT, "succeeded")
    outcome = await _refund(_order(State.CANCELLED, **_BROKE), payments)
    assert isinstance(outcome, Step)
    assert (outcome.wish.action, outcome.wish.changes["captured"]) == (Action.CONFIRM_LATE_PAYMENT, 3_200)


@pytest.mark.parametrize("status", ["requires_confirmation", "requires_payment_method", "requires_action", "requires_capture"])
async def test_a_charge_that_was_never_made_is_made_impossible(payments: FakePayments, status: str) -> None:
    payments.has(INTENT, status)
    assert await _refund(_order(State.PAYMENT_FAILED, **_BROKE), payments) == Nothing()
    assert payments.intents[INTENT].status == "canceled"


async def test_a_charge_that_succeeds_while_it_is_called_off_is_recorded(payments: FakePayments) -> None:
    cancel = payments.cancel

    async def too_late(*arguments: Any) -> Any:
        payments.has(INTENT, "succeeded")
        return await cancel(*arguments)

    payments.cancel = too_late  # type: ignore[method-assign]
    outcome = await _refund(_order(State.CANCELLED, **_BROKE), payments)
    assert isinstance(outcome, Step)
    assert outcome.wish.action is Action.CONFIRM_LATE_PAYMENT


async def test_a_charge_under_way_is_waited_for(payments: FakePayments) -> None:
    payments.has(INTENT, "processing")
    with pytest.raises(ChargeNotSettled):
        await _refund(_order(State.CANCELLED, **_BROKE), payments)
    with pytest.raises(NotAllowed):  # and its intent is never taken away while the order still wants it
        await _refund(_order(State.PAYMENT_PROCESSING, **_BROKE), payments)


async def test_a_refund_that_the_provider_could_not_carry_out_is_tried_again(payments: FakePayments) -> None:
    payments.has(INTENT, "succeeded")
    order = _order(State.CANCELLED)
    await _refund(order, payments)
    key = (order.order_id, "cancelled")
    payments.refunds[key] = msgspec.structs.replace(payments.refunds[key], status="failed")
    with pytest.raises(RefundFailed):
        await _refund(order, payments)


async def test_a_reason_that_nobody_knows_is_an_operators(payments: FakePayments) -> None:
    with pytest.raises(UnknownRefundReason):
        await _refund(_order(State.CANCELLED), payments, "because")


def test_what_may_pass_is_named_so() -> None:
    assert issubclass(NotSettled, RetryLater)
    assert not issubclass(CardDeclined, RetryLater)
