"""What the demonstration's invariants and targets are judged by: the outside world's records beside our own. Pure data."""

from datetime import datetime
from typing import Any, Final

import msgspec

from orders.names import Command

NOWHERE: Final = "nowhere"
# What workers may acknowledge and not remember: the step that it asks for was made or overtaken meanwhile, or could not be made
# for good, which its order's own way has answered (a declined charge: payment_failed).
_CAN_BE_LATE: Final = frozenset(
    {Command.PAYMENT_CHARGE, Command.RESTAURANT_NOTIFY, Command.DRIVER_DISPATCH, Command.ORDER_CANCEL, Command.ORDER_DEADLINE}
)
# What workers do and never remember: waking again does no harm, and a push arrives or does not.
_NOT_REMEMBERED: Final = frozenset({Command.ORDER_WAKE, Command.NOTIFICATION_PUSH})


class Order(msgspec.Struct, frozen=True):
    """An order as our database has it. Amounts in minor units."""

    order_id: str
    customer_id: str
    restaurant_id: str
    state: str
    money: str
    position: int
    captured: int
    refunded: int
    total: int
    driver_id: str | None
    reason: str | None
    pending: dict[str, Any]
    deadline: str | None
    placed_at: datetime


class Log(msgspec.Struct, frozen=True):
    """What an order's log holds."""

    events: int
    first: int
    last: int
    distinct_positions: int


class Charged(msgspec.Struct, frozen=True):
    """An order as the payment provider has it: every capture and refund, times in seconds since the epoch."""

    captured: int
    refunded: int
    captures: tuple[float, ...]
    intents_captured: int
    faults: tuple[str, ...]


class Placed(msgspec.Struct, frozen=True):
    """An order as the customer has it."""

    order_id: str
    plot: str
    total: int
    sent_at: float
    latency_ms: float
    attempts: int
    gaps: int


class Letter(msgspec.Struct, frozen=True):
    """A failed message and what became of it. `done`: a worker did it, and remembers."""

    letter_id: str
    source: str
    message_id: str
    consumer: str
    failure_type: str
    reason: str
    state: str
    resolution: str | None
    resolved_by: str | None
    done: bool


class Entry(msgspec.Struct, frozen=True):
    """A message that entered. `done`: a worker remembers it; `pending`: its order still waits for it; `state`: its letter's."""

    message_id: str
    type: str
    state: str | None
    done: bool
    pending: bool

    @property
    def place(self) -> str:
        """The one place where it is once all is quiet."""
        if self.state in ("open", "replaying"):
            return "parked"
        if self.state == "discarded":
            return "discarded"
        if self.done or self.state == "resolved":
            return "done"
        if self.type in _NOT_REMEMBERED:
            return "done, and not remembered"
        return "superseded or compensated" if self.type in _CAN_BE_LATE and not self.pending else NOWHERE


class Kitchen(msgspec.Struct, frozen=True):
    """One order at one restaurant that heard of it: whether it said yes or no, and whether it was told that the order is off."""

    order_id: str
    restaurant_id: str
    accepted: bool
    refused: bool
    told_off: bool


class Alarm(msgspec.Struct, frozen=True):
    """What somebody was called for. `over`: it has been cleared."""

    kind: str
    subject: str
    lasted_s: float
    over: bool


class Window(msgspec.Struct, frozen=True):
    """A fault and when it was at work, in seconds since the epoch, recovery included."""

    name: str
    begins: float
    ends: float


class Deeds(msgspec.Struct, frozen=True, kw_only=True):
    """What was done on purpose: faults, messages that were made unreadable, and how often there was something for an operator to
    do (`shifts`), with what could not be done (`gave_up`).
    """

    windows: list[Window] = []
    parked: list[str] = []
    gave_up: list[str] = []
    shifts: int = 0


class Evidence(msgspec.Struct, kw_only=True):
    """Everything, by order id where it is about orders."""

    began: float
    placed: dict[str, Placed]
    uncertain: int  # customers who gave up without an answer: their orders may or may not exist
    orders: dict[str, Order]
    logs: dict[str, Log]
    broken_chains: list[str]
    charged: dict[str, Charged]
    notified: dict[str, float]  # when the restaurant first heard of it
    kitchens: list[Kitchen]  # one for each order at each restaurant that had it
    accepted: dict[str, float]  # when the restaurant said yes
    assigned: dict[str, float]  # when a driver first heard of it
    messages: dict[str, set[str]]  # SMS that arrived: order → templates' words
    positions: dict[str, dict[str, int]]  # group → order → position
    audited: dict[str, Log]
    support: dict[str, tuple[str, int, int]]
    analytics: dict[str, int]
    held: list[str]
    stranded_drivers: list[str]
    outbox: int
    set_aside: int
    queues: dict[str, int]  # what each queue holds
    expected_in_queues: dict[str, int]  # what was there before the demonstration began
    letters: list[Letter]
    alerts: list[Alarm]
    entries: list[Entry]  # every message to RabbitMQ
    facts: dict[str, int]  # how many entered, by topic
    deeds: Deeds
