"""The only place that moves a payment intent: what may happen to it from which status. Pure: entries in, state out."""

from typing import Literal, assert_never

import msgspec

from simulation.provider.cards import decline_of
from simulation.provider.entries import Canceled, Captured, Created, Declined, Movement, Refunded

Status = Literal["requires_payment_method", "requires_confirmation", "succeeded", "canceled"]


class Intent(msgspec.Struct):
    """One payment, folded from its movements. Amounts in minor units of `currency`."""

    made: Created
    status: Status
    payment_method: str | None
    captures: list[Captured] = []
    refunds: list[Refunded] = []
    declines: list[Declined] = []
    canceled: Canceled | None = None

    @property
    def id(self) -> str:
        return self.made.intent

    @property
    def attempts(self) -> int:
        return len(self.captures) + len(self.declines)

    @property
    def captured_minor(self) -> int:
        return sum(capture.amount_minor for capture in self.captures)

    @property
    def refunded_minor(self) -> int:
        return sum(refund.amount_minor for refund in self.refunds)

    @property
    def last_decline(self) -> Declined | None:
        """The decline that the intent still stands at; a capture clears it, as Stripe's `last_payment_error`."""
        return self.declines[-1] if self.declines and not self.captures else None


class NotPossible(Exception):  # noqa: N818  # an answer, not a fault
    """The intent's status does not allow this."""


class TooMuch(Exception):  # noqa: N818
    """More than is left to refund; `left_minor` says what is."""

    def __init__(self, left_minor: int) -> None:
        super().__init__(left_minor)
        self.left_minor = left_minor


def begin(made: Created) -> Intent:
    status: Status = "requires_confirmation" if made.payment_method else "requires_payment_method"
    return Intent(made=made, status=status, payment_method=made.payment_method)


def confirm(intent: Intent, payment_method: str, charge: str, at: float) -> Captured | Declined:
    """Try to charge. Raises `NotPossible` unless the intent still waits for a confirmation or a payment method."""
    if intent.status not in ("requires_confirmation", "requires_payment_method"):
        raise NotPossible
    decline = decline_of(payment_method, intent.attempts + 1)
    if decline is None:
        return Captured(at, intent.id, charge, payment_method, intent.made.amount_minor)
    return Declined(at, intent.id, charge, payment_method, decline.code, decline.decline_code)


def cancel(intent: Intent, reason: str | None, at: float) -> Canceled:
    """Raises `NotPossible` once it is captured or canceled."""
    if intent.status not in ("requires_confirmation", "requires_payment_method"):
        raise NotPossible
    return Canceled(at, intent.id, reason)


def refund(intent: Intent, amount_minor: int | None, refund_id: str, at: float) -> Refunded:
    """Give back `amount_minor`, or all that is left. Raises `NotPossible` where nothing was captured, and `TooMuch`."""
    if not intent.captures:
        raise NotPossible
    left = intent.captured_minor - intent.refunded_minor
    amount = left if amount_minor is None else amount_minor
    if not 0 < amount <= left:
        raise TooMuch(left)
    return Refunded(at, intent.id, intent.captures[-1].charge, refund_id, amount, None, {})


def apply(intent: Intent, movement: Movement) -> None:
    """Fold a movement that was decided above (or read back from the ledger file) into the intent."""
    match movement:
        case Created():
            pass
        case Declined():
            intent.status, intent.payment_method = "requires_payment_method", None
            intent.declines.append(movement)
        case Captured():
            intent.status, intent.payment_method = "succeeded", movement.payment_method
            intent.captures.append(movement)
        case Canceled():
            intent.status, intent.canceled = "canceled", movement
        case Refunded():
            intent.refunds.append(movement)
        case _:
            assert_never(movement)
