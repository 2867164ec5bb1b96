"""The only place that says what a handler may answer. It says what is to be done; `delivery` does it."""

import msgspec

from orders.decide import Wish
from orders.envelope import OutboxRow
from orders.errors import RetryLater


class Step(msgspec.Struct, frozen=True):
    """Commit this, then ask me again with the order as it is then. The command goes on."""

    wish: Wish


class Remember(msgspec.Struct, frozen=True):
    """Store the number of the next payment attempt, then wait for the reason given. Moves no position."""

    payment_attempt: int
    then: RetryLater


class Done(msgspec.Struct, frozen=True):
    """Commit this as the command's last step, together with its inbox row and these other messages."""

    wish: Wish
    also: tuple[OutboxRow, ...] = ()


class Nothing(msgspec.Struct, frozen=True):
    """The command is done and the order stays as it is. Its inbox row is written with these other messages."""

    also: tuple[OutboxRow, ...] = ()


class Forgotten(msgspec.Struct, frozen=True):
    """The command is done and nothing is written about it. A redelivery does it again."""


Outcome = Step | Remember | Done | Nothing | Forgotten
