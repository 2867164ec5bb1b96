"""The only place that says how long a step of an order usually takes, by when it must have come, and whence that is known. Pure.

One table. Limits are business seconds: the settings' own deadlines where there is one, else what is promised or usual.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

import msgspec

from audit.investigation.model import Finding, Severity, Step
from orders.names import FINAL


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """After a step, one of others is waited for.

    `usual_s`: longer is unusual, by `source`. `setting`: the deadline's name in the settings, after which something must have
    been done about it. `missing` and `late`: the words for either, with {minutes}.
    """

    name: str
    after: str
    until: frozenset[str]
    usual_s: int
    source: str
    setting: str | None = None
    missing: str
    late: str


def _until(*names: str) -> frozenset[str]:
    return frozenset({*names, "order.cancelled", "fraud.detected"})


_PROMISE: Final = "the latency targets of the demonstration"
WAITS: Final[tuple[Wait, ...]] = (
    Wait(name="payment_start", after="order.placed", until=_until("payment.initiated", "payment.failed"), usual_s=10,
         source=_PROMISE, setting="stuck_s", missing="the payment was not begun {minutes} after the order was placed",
         late="the payment was begun {minutes} after the order was placed"),
    Wait(name="payment_answer", after="payment.initiated", until=_until("payment.confirmed", "payment.failed"), usual_s=10,
         source=_PROMISE, setting="stuck_s", missing="no answer of the payment provider {minutes} after it was asked",
         late="the payment provider took {minutes}"),
    Wait(name="restaurant_told", after="payment.confirmed",
         until=_until("restaurant.notified", "restaurant.accepted", "restaurant.rejected"), usual_s=30, source=_PROMISE,
         setting="stuck_s", missing="the restaurant was not told {minutes} after the payment",
         late="the restaurant was told {minutes} after the payment"),
    Wait(name="restaurant_answer", after="restaurant.notified", until=_until("restaurant.accepted", "restaurant.rejected"),
         usual_s=180, source="three of the five minutes that a restaurant has", setting="restaurant_answer_s",
         missing="no answer of the restaurant {minutes} after it was told", late="the restaurant answered after {minutes}"),
    Wait(name="customer_decision", after="restaurant.rejected", until=_until("order.rerouted"), usual_s=300,
         source="setting customer_decision_s", setting="customer_decision_s",
         missing="no decision {minutes} after the restaurant's no", late="it was decided {minutes} after the restaurant's no"),
    Wait(name="driver_search", after="restaurant.accepted", until=_until("driver.assigned"), usual_s=120,
         source=_PROMISE, setting="driver_search_s", missing="no driver {minutes} after the restaurant's yes",
         late="a driver was found {minutes} after the restaurant's yes"),
    Wait(name="pick_up", after="driver.assigned", until=_until("driver.picked_up", "driver.released"), usual_s=900,
         source="three quarters of the time that a driver has", setting="pick_up_s",
         missing="no pick-up {minutes} after the driver took it", late="it was picked up {minutes} after the driver took it"),
    Wait(name="delivery", after="driver.picked_up", until=_until("driver.delivered"), usual_s=1_500,
         source="25 minutes from the kitchen to the door", setting="delivery_s",
         missing="no delivery event {minutes} after pick-up", late="it was delivered {minutes} after pick-up"),
    Wait(name="dispute", after="dispute.opened", until=frozenset({"dispute.resolved"}), usual_s=172_800,
         source="two days for an answer", missing="the dispute is not resolved {minutes} after it was opened",
         late="the dispute was resolved {minutes} after it was opened"),
)  # fmt: skip
_REFUND_S: Final = 1_260  # the delay tiers together: 1, 5 and 15 minutes
_LEAST_S: Final = 1.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How business time passes here: the settings' deadlines in business seconds, and `scale`, how much faster it runs."""

    deadlines: Mapping[str, int]
    scale: float = 1.0

    def wall(self, seconds: float) -> float:
        return max(_LEAST_S, seconds / self.scale)


def delays(steps: Sequence[Step], now: datetime, limits: Limits) -> list[Finding]:
    """Every wait that was, or is, longer than usual, in the order of the steps."""
    found = [
        _of(wait, steps, index, now, limits) for index, step in enumerate(steps) for wait in WAITS if wait.after == step.action
    ]
    return [finding for finding in found if finding is not None]


def _of(wait: Wait, steps: Sequence[Step], index: int, now: datetime, limits: Limits) -> Finding | None:
    begun = steps[index]
    ended = next((step for step in steps[index + 1 :] if step.action in wait.until), None)
    if ended is None and any(step.new_state in FINAL for step in steps[index + 1 :]) and wait.name != "dispute":
        return None  # it came to an end in another way
    seconds = ((ended.occurred_at if ended else now) - begun.occurred_at).total_seconds()
    usual = limits.wall(wait.usual_s)
    if seconds <= usual:
        return None
    deadline = limits.deadlines.get(wait.setting or "")
    overdue = deadline is not None and seconds > limits.wall(deadline)
    severity: Severity = "overdue" if overdue else "unusual"
    words = (wait.late if ended else wait.missing).format(minutes=spell(seconds))
    source = f"setting {wait.setting}" if overdue else wait.source
    limit = limits.wall(deadline) if overdue and deadline is not None else usual
    return Finding(
        name=wait.name if ended else f"{wait.name}_missing", severity=severity, words=words, position=begun.position,
        seconds=round(seconds, 3), limit_s=limit, source=source,
    )  # fmt: skip


def gaps(steps: Sequence[Step]) -> list[Finding]:
    """Positions that are not there, and steps whose time goes back."""
    found = []
    positions = {step.position for step in steps}
    last = max(positions, default=0)
    for position in sorted(set(range(1, last + 1)) - positions):
        words = f"the event at position {position} is missing from the record"
        found.append(Finding(name="event_missing", severity="broken", words=words, position=position))
    for before, after in pairwise(steps):
        if after.occurred_at < before.occurred_at:
            words = f"position {after.position} is dated before the one it follows: a clock was wrong"
            found.append(Finding(name="time_goes_back", severity="notice", words=words, position=after.position))
    return found


def refund_outstanding(left: int, *, owed: bool, since: datetime | None, now: datetime, limits: Limits) -> list[Finding]:
    """Money of an order that ended without food must be on its way back within the delay tiers."""
    if not owed or left <= 0 or since is None:
        return []
    seconds = (now - since).total_seconds()
    if seconds <= limits.wall(_REFUND_S):
        return []
    words = f"{left} minor units were not given back {spell(seconds)} after the order ended"
    return [
        Finding(
            name="refund_missing", severity="overdue", words=words, seconds=round(seconds, 3), limit_s=limits.wall(_REFUND_S),
            source="the delay tiers together",
        )
    ]  # fmt: skip


def spell(seconds: float) -> str:
    """A span of time for people."""
    if seconds < 90:  # noqa: PLR2004  # a minute and a half is still told in seconds
        return f"{seconds:.0f} seconds"
    minutes = round(seconds / 60)
    if minutes < 180:  # noqa: PLR2004  # and three hours in minutes
        return f"{minutes} minutes"
    hours = round(seconds / 3600)
    return f"{hours} hours" if hours < 72 else f"{hours // 24} days"  # noqa: PLR2004  # three days in hours
