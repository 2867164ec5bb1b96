"""The only place that says what kinds of failure there are, and which of them may pass: one table.

Every error of ours names its type (`RushlineError.failure`); nothing is ever told by the words in an error's text.
"""

from enum import StrEnum
from typing import Final


class FailureType(StrEnum):
    """What went wrong, as operators, runbooks and rules name it."""

    PAYMENT_DECLINED = "payment_declined"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    PAYMENT_TIMEOUT = "payment_timeout"
    PAYMENT_FRAUD = "payment_fraud"
    RESTAURANT_CLOSED = "restaurant_closed"
    RESTAURANT_REJECTED = "restaurant_rejected"
    RESTAURANT_TIMEOUT = "restaurant_timeout"
    ITEM_UNAVAILABLE = "item_unavailable"
    DRIVER_UNAVAILABLE = "driver_unavailable"
    DRIVER_NO_SHOW = "driver_no_show"
    INVALID_MESSAGE = "invalid_message"
    SERVICE_UNAVAILABLE = "service_unavailable"
    UNKNOWN = "unknown"


class Category(StrEnum):
    """What follows from a failure. Transient: the same again, later. Permanent: never again. Poison: quarantined."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    POISON = "poison"


CATEGORY: Final = {
    FailureType.PAYMENT_DECLINED: Category.PERMANENT,
    FailureType.INSUFFICIENT_FUNDS: Category.PERMANENT,
    FailureType.PAYMENT_TIMEOUT: Category.TRANSIENT,
    FailureType.PAYMENT_FRAUD: Category.PERMANENT,
    FailureType.RESTAURANT_CLOSED: Category.PERMANENT,
    FailureType.RESTAURANT_REJECTED: Category.PERMANENT,
    FailureType.RESTAURANT_TIMEOUT: Category.TRANSIENT,
    FailureType.ITEM_UNAVAILABLE: Category.PERMANENT,
    FailureType.DRIVER_UNAVAILABLE: Category.TRANSIENT,
    FailureType.DRIVER_NO_SHOW: Category.TRANSIENT,
    FailureType.INVALID_MESSAGE: Category.POISON,
    FailureType.SERVICE_UNAVAILABLE: Category.TRANSIENT,
    FailureType.UNKNOWN: Category.TRANSIENT,  # until its retries are spent
}
