"""The only place that reads a delivery: its headers, its body, and how often it has failed before."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from adapters.rabbitmq_consumer import Delivery
from orders.commands import CommandBody, WakeOrder, read_command
from orders.envelope import AMQP_PREFIX, open_envelope
from orders.errors import BadMessage
from orders.ids import is_id
from orders.names import Command, queue_of

ATTEMPTS: Final = "rushline-attempts"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A command as it was delivered. `id` is its identity: whoever issues it again gives it the same."""

    id: str
    kind: Command
    body: CommandBody
    traceparent: str
    attempts: int = 0  # how often it has failed before, and waited in a tier

    @property
    def service(self) -> str:
        """Who acts: the name in facts and in the audit trail."""
        return f"worker-{queue_of(self.kind).value}"


def read(delivery: Delivery) -> Task:
    """The task in a delivery. Raises `BadMessage` for what cannot be read, or has no business in this queue."""
    envelope = open_envelope(texts(delivery.headers), AMQP_PREFIX)
    kind, body = read_command(envelope.type, envelope.schema_version, delivery.body)
    if queue_of(kind) != delivery.queue:
        raise BadMessage(f"{kind.value} belongs in {queue_of(kind).value}, not in {delivery.queue}")
    if not is_id(envelope.id, "cmd"):
        raise BadMessage("the message's id is not that of a command")
    if not is_id(body.order_id, "ord") and not isinstance(body, WakeOrder):
        raise BadMessage("order_id is not the id of an order")
    return Task(id=envelope.id, kind=kind, body=body, traceparent=envelope.traceparent, attempts=attempts(delivery.headers))


def attempts(headers: Mapping[str, Any]) -> int:
    """How often this message has failed and was sent to a tier."""
    value = texts(headers).get(ATTEMPTS, "0")
    return int(value) if value.isdecimal() else 0


def texts(headers: Mapping[str, Any]) -> dict[str, str]:
    """The headers that are texts or numbers, as texts. The broker adds tables of its own."""
    return {name: str(value) for name, value in headers.items() if isinstance(value, str | int)}
