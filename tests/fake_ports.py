"""The workers' ports without a world behind them: what tests can make fail at a chosen moment, and ask what happened."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from adapters.payments import Intent, IntentUnexpectedState, Refund, declined
from orders.order import Order
from orders.rerouting import Alternative, may_go_on
from workers.ports import Alternatives, Drivers, HeldFacts, NoDriverAvailable, Ports, Reservation

DECLINES = {
    "pm_declined": "generic_decline",
    "pm_poor": "insufficient_funds",
    "pm_thief": "fraudulent",
    "pm_flaky": "processing_error",
}


class _Failing:
    """`before` fails a call without its effect, `after` with it; each failure once. `calls` says what was asked."""

    def __init__(self) -> None:
        self.before: dict[str, list[BaseException]] = defaultdict(list)
        self.after: dict[str, list[BaseException]] = defaultdict(list)
        self.always: dict[str, BaseException] = {}
        self.calls: list[tuple[Any, ...]] = []

    def _asked(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name in self.always:
            raise self.always[name]
        if self.before[name]:
            raise self.before[name].pop(0)

    def _done(self, name: str) -> None:
        if self.after[name]:
            raise self.after[name].pop(0)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


class FakePayments(_Failing):
    """A provider that keeps the port's promises. `pm_flaky` is declined for now, `pm_declined` … for good."""

    def __init__(self) -> None:
        super().__init__()
        self.intents: dict[str, Intent] = {}
        self.refunds: dict[tuple[str, str], Refund] = {}

    def has(self, intent_id: str, status: str, **values: Any) -> Intent:
        """Put the intent into this state, as if somebody had been here before."""
        known = self.intents.get(intent_id) or Intent(intent_id, "requires_confirmation", 3_200, 0, 0, None, None, None)
        if status == "succeeded":
            values = {"captured_minor": known.amount_minor, **values}
        self.intents[intent_id] = msgspec.structs.replace(known, status=status, **values)
        return self.intents[intent_id]

    async def create(self, order_id: str, amount: int, currency: str, payment_method_id: str) -> Intent:  # noqa: ARG002
        self._asked("create", order_id)
        key = f"pi_{order_id}"
        self.intents.setdefault(key, Intent(key, "requires_confirmation", amount, 0, 0, None, payment_method_id, None))
        self._done("create")
        return self.intents[key]

    async def confirm(self, intent_id: str, order_id: str, attempt: int, payment_method_id: str) -> Intent:  # noqa: ARG002
        self._asked("confirm", intent_id, attempt)
        if self.intents[intent_id].status not in ("requires_confirmation", "requires_payment_method"):
            raise IntentUnexpectedState(intent_id)
        code = DECLINES.get(payment_method_id)
        if code is not None:
            self.has(intent_id, "requires_payment_method", decline=code)
        else:
            self.has(intent_id, "succeeded")
        self._done("confirm")
        if code is not None:
            raise declined(code)
        return self.intents[intent_id]

    async def retrieve(self, intent_id: str) -> Intent:
        self._asked("retrieve", intent_id)
        return self.intents[intent_id]

    async def cancel(self, intent_id: str, order_id: str) -> Intent:  # noqa: ARG002
        self._asked("cancel", intent_id)
        if self.intents[intent_id].status in ("succeeded", "processing"):
            raise IntentUnexpectedState(intent_id)
        return self.has(intent_id, "canceled")

    async def refund(self, intent_id: str, order_id: str, reason: str, amount_minor: int, *, settle: bool = False) -> Refund:
        self._asked("refund", intent_id, reason, amount_minor, settle)
        key = (order_id, reason)
        if key not in self.refunds:
            self.refunds[key] = Refund(f"re_{reason}", "succeeded", amount_minor, reason)
            known = self.intents[intent_id]
            self.has(intent_id, known.status, refunded_minor=known.refunded_minor + amount_minor)
        self._done("refund")
        return self.refunds[key]


class FakeRestaurants(_Failing):
    async def tell(self, restaurant_id: str, message_id: str, body: bytes) -> None:
        self._asked("tell", restaurant_id, message_id, msgspec.json.decode(body))
        self._done("tell")


class FakeDrivers(_Failing):
    """Free drivers, nearest first."""

    def __init__(self, *free: str) -> None:
        super().__init__()
        self.free = list(free)

    async def reserve(self, order: Order, within_m: int | None) -> Reservation:
        self._asked("reserve", order.order_id, within_m)
        driver = next((each for each in self.free if each not in order.past_drivers), None)
        if driver is None:
            raise NoDriverAvailable(order.city)
        return Reservation(driver, 700)


class FakeAlternatives:
    """The restaurant that takes what others rejected, or none."""

    def __init__(self) -> None:
        self.found: Alternative | None = None

    async def find(self, order: Order) -> Alternative | None:
        return self.found if may_go_on(order) else None


class FakeMessages(_Failing):
    async def send_sms(self, to: str, body: str, idempotency_key: str) -> str:
        self._asked("sms", to, body, idempotency_key)
        return f"sms_{idempotency_key}"

    async def send_push(self, to: str, title: str, body: str, data: Mapping[str, str]) -> None:
        self._asked("push", to, title, body, dict(data))


class FakeHeldFacts(_Failing):
    async def wake(self, group: str, order_id: str, position: int, attempt: int) -> None:
        self._asked("wake", group, order_id, position, attempt)
        self._done("wake")


class FakePorts:
    """All of them, and as what a worker takes."""

    def __init__(self, drivers: Drivers | None = None) -> None:
        self.payments, self.restaurants, self.messages = FakePayments(), FakeRestaurants(), FakeMessages()
        self.drivers: Drivers = drivers or FakeDrivers("drv_near", "drv_far")
        self.alternatives: Alternatives = FakeAlternatives()
        self.held: HeldFacts = FakeHeldFacts()

    @property
    def ports(self) -> Ports:
        return Ports(
            payments=self.payments,
            restaurants=self.restaurants,
            drivers=self.drivers,
            alternatives=self.alternatives,
            messages=self.messages,
            held=self.held,
            answer_within=timedelta(minutes=5),
        )
