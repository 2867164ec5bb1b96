"""The only place that knows which test payment method does what. The names are Stripe's own; any other `pm_…` pays.

`pm_sim_flaky_<n>` is ours: its first n attempts meet a processing error, then it pays.
"""

import re
from typing import Final

import msgspec


class Decline(msgspec.Struct, frozen=True):
    code: str
    decline_code: str | None
    message: str


_PROCESSING: Final = Decline(
    "processing_error", None, "An error occurred while processing your card. Try again in a little bit."
)
_FRAUD: Final = Decline("card_declined", "fraudulent", "Your card was declined.")
_FLAKY: Final = re.compile(r"pm_sim_flaky_(\d{1,3})\Z")

_DECLINES: Final = {
    "pm_card_visa_chargeDeclined": Decline("card_declined", "generic_decline", "Your card was declined."),
    "pm_card_visa_chargeDeclinedInsufficientFunds": Decline(
        "card_declined", "insufficient_funds", "Your card has insufficient funds."
    ),
    "pm_card_visa_chargeDeclinedLostCard": Decline("card_declined", "lost_card", "Your card was declined."),
    "pm_card_visa_chargeDeclinedStolenCard": Decline("card_declined", "stolen_card", "Your card was declined."),
    "pm_card_chargeDeclinedExpiredCard": Decline("expired_card", None, "Your card has expired."),
    "pm_card_chargeDeclinedIncorrectCvc": Decline("incorrect_cvc", None, "Your card's security code is incorrect."),
    "pm_card_chargeDeclinedFraudulent": _FRAUD,
    "pm_card_radarBlock": _FRAUD,
    "pm_card_chargeDeclinedProcessingError": _PROCESSING,
}


def decline_of(payment_method: str, attempt: int) -> Decline | None:
    """Why this attempt (1, 2, …) with this payment method is declined, or None where it pays."""
    flaky = _FLAKY.match(payment_method)
    if flaky:
        return _PROCESSING if attempt <= int(flaky[1]) else None
    return _DECLINES.get(payment_method)
