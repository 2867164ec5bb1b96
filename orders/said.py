"""The only place that says which reasons are words of ours. Whatever else people type may be about somebody: it is personal.

A word of ours goes into facts, messages and the audit trail in clear. Anything else is replaced by a word, and what was typed is
kept under the customer's key alone.
"""

from collections.abc import Set as AbstractSet
from typing import Final

RESTAURANT_WORDS: Final = frozenset(
    {
        "closing_time", "closed", "restaurant_closed", "restaurant_rejected", "too_busy", "sold_out", "unavailable_items",
        "item_unavailable", "kitchen_problem", "staff_shortage", "out_of_stock", "out_of_ingredients", "outside_area",
    }
)  # fmt: skip
DRIVER_WORDS: Final = frozenset(
    {"driver_unable", "vehicle_problem", "accident", "flat_tyre", "restaurant_not_ready", "too_far"}
)


def worded(text: str, words: AbstractSet[str], otherwise: str) -> tuple[str, str]:
    """The word that stands for this reason, and what was typed where that is no word of ours."""
    return (text, "") if text in words else (otherwise, text)
