"""The only place that says what a payment provider must be able to do, and what can go wrong with it: the `Payments` port.

Refuse
├── CardDeclined             definite: the issuer said no; `code` says why
│   ├── InsufficientFunds
│   └── FraudSuspected
└── BadSignature             a provider's event that the provider did not sign
RetryLater
├── ProcessingErrorDecline   definite: declined for now; confirm again with the next attempt number
├── ProviderUnavailable      certainly not executed: no connection, or too many requests
├── OutcomeUnknown           perhaps executed: timeout, 5xx, lost answer; retrieve the intent before anything else
├── IntentUnexpectedState    the intent is not where this call may start from; retrieve it
└── RefundOverlaps           more than is left: another refund is not recorded yet; load the order again
CallAnOperator
├── BadProviderCredentials   the provider does not know our key
└── ProviderRefused          the provider finds our request invalid
    └── KeyTaken             the idempotency key was used with other parameters
"""

from typing import Final, Literal, Protocol

import msgspec

from orders.errors import CallAnOperator, Refuse, RetryLater
from orders.failures import FailureType

IntentStatus = Literal[
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "processing",
    "requires_capture",
    "canceled",
    "succeeded",
]
RefundStatus = Literal["pending", "requires_action", "succeeded", "failed", "canceled"]


class Intent(msgspec.Struct, frozen=True):
    """A payment as the provider knows it. Amounts in minor units of the order's currency.

    `decline` is why the last attempt was declined, as long as no later one succeeded; `charge_id` is the last attempt's charge.
    `refunded_minor` is counted by `retrieve` only; the answers to other calls say 0.
    """

    id: str
    status: IntentStatus
    amount_minor: int
    captured_minor: int
    refunded_minor: int
    decline: str | None
    payment_method_id: str | None
    charge_id: str | None


class Refund(msgspec.Struct, frozen=True):
    """Money on its way back. `reason` is ours, the one that it was asked with."""

    id: str
    status: RefundStatus
    amount_minor: int
    reason: str


class CardDeclined(Refuse):
    """Definite: nothing was charged. `code` is the provider's decline code (`generic_decline`, `expired_card`, …)."""

    slug = "card-declined"
    failure = FailureType.PAYMENT_DECLINED

    def __init__(self, code: str) -> None:
        super().__init__(f"the card was declined: {code}")
        self.code = code


class InsufficientFunds(CardDeclined):
    slug = "insufficient-funds"
    failure = FailureType.INSUFFICIENT_FUNDS


class FraudSuspected(CardDeclined):
    slug = "fraud-suspected"
    failure = FailureType.PAYMENT_FRAUD


class BadSignature(Refuse):
    """An event whose signature is missing, wrong, or older than the tolerance. Nothing in it was believed."""

    slug = "bad-signature"
    failure = FailureType.INVALID_MESSAGE


class ProcessingErrorDecline(RetryLater):
    """Definite: nothing was charged, and the next attempt (with the next number) may succeed."""

    slug = "processing-error-decline"
    failure = FailureType.SERVICE_UNAVAILABLE

    def __init__(self, code: str) -> None:
        super().__init__(f"the card was declined for now: {code}")
        self.code = code


class ProviderUnavailable(RetryLater):
    """Certainly not executed: no connection was made, or the provider said 429."""

    slug = "provider-unavailable"
    failure = FailureType.SERVICE_UNAVAILABLE


class OutcomeUnknown(RetryLater):
    """Perhaps executed: timeout, 5xx, a connection lost, or the same call still under way. Settle it before anything else."""

    slug = "outcome-unknown"
    failure = FailureType.PAYMENT_TIMEOUT


class IntentUnexpectedState(RetryLater):
    """The intent's status does not allow this call: somebody was here before. Retrieve it and decide from that."""

    slug = "intent-unexpected-state"
    failure = FailureType.PAYMENT_TIMEOUT


class RefundOverlaps(RetryLater):
    """The charge has less left than was asked for: another refund of it is not recorded yet. Load, count and ask again."""

    slug = "refund-overlaps"
    failure = FailureType.PAYMENT_TIMEOUT


class BadProviderCredentials(CallAnOperator):
    slug = "bad-provider-credentials"
    failure = FailureType.SERVICE_UNAVAILABLE


class ProviderRefused(CallAnOperator):
    """The provider finds the request invalid: no such intent, more than is left to refund, a key with other parameters."""

    slug = "provider-refused"
    failure = FailureType.UNKNOWN


class KeyTaken(ProviderRefused):
    """The idempotency key was used with other parameters before. Nothing was executed now."""

    slug = "idempotency-key-taken"


_FRAUD: Final = frozenset({"fraudulent", "merchant_blacklist", "highest_risk_level"})
_FOR_NOW: Final = frozenset({"processing_error", "try_again_later", "issuer_not_available", "reenter_transaction"})


def declined(code: str) -> CardDeclined | ProcessingErrorDecline:
    """The error that a decline code means; also for an `Intent.decline` found by retrieving."""
    if code in _FOR_NOW:
        return ProcessingErrorDecline(code)
    if code == "insufficient_funds":
        return InsufficientFunds(code)
    return FraudSuspected(code) if code in _FRAUD else CardDeclined(code)


class Payments(Protocol):
    """Any call may raise `ProviderUnavailable`, `OutcomeUnknown`, `BadProviderCredentials` or `ProviderRefused`.

    Every call may be made again with the same arguments: an intent is captured at most once and an order is refunded at most
    once per reason, whatever was lost before. The idempotency keys make that cheap; the intent's own state makes it true.
    """

    async def create(self, order_id: str, amount: int, currency: str, payment_method_id: str) -> Intent:
        """An unconfirmed intent for `amount` minor units. It moves no money, so one that gets lost costs nothing: store its
        id before confirming it, and confirm none but the stored one.
        """
        ...

    async def confirm(self, intent_id: str, order_id: str, attempt: int, payment_method_id: str) -> Intent:
        """Charge. `attempt` counts definite declines from 1; the same number is safe to repeat after an unknown outcome.

        Raises also `CardDeclined`, `ProcessingErrorDecline`, `IntentUnexpectedState` (it was confirmed or cancelled before).
        """
        ...

    async def retrieve(self, intent_id: str) -> Intent: ...

    async def cancel(self, intent_id: str, order_id: str) -> Intent:
        """Give up an intent that is not captured. Raises also `IntentUnexpectedState` (captured: refund it)."""
        ...

    async def refund(self, intent_id: str, order_id: str, reason: str, amount_minor: int, *, settle: bool = True) -> Refund:
        """Give back `amount_minor`, once per order and reason, and return what was given back before if it was.

        `settle=False` saves the look at earlier refunds: only for what is certainly the first try. An earlier refund of the
        same reason is returned as it is, even where its amount differs.
        """
        ...
