"""The only place that reads a delivery: its headers, and its body."""

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.rabbitmq_consumer import Delivery
from orders.commands import CommandBody, WakeOrder, read_command
from orders.envelope import AMQP_PREFIX, MAX_BODY_BYTES, TRACEPARENT, open_envelope
from orders.errors import BadMessage
from orders.ids import is_id
from orders.names import Command, Fact, queue_of
from workers.trail import attempts, texts

_COMMANDS = frozenset(Command)


class BodyTooLarge(BadMessage):
    """No command of ours is so large: nobody looks into it."""

    slug = "message-too-large"


class WrongBroker(BadMessage):
    """A fact's type on RabbitMQ: its place is a topic on Kafka."""

    slug = "wrong-broker"


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What a command's headers say it is. `id` is its identity: whoever issues it again gives it the same."""

    id: str
    kind: Command
    order_id: str
    traceparent: str

    @property
    def service(self) -> str:
        """Who acts: the name in facts and in the audit trail."""
        return f"worker-{queue_of(self.kind).value}"


class Task(Named, frozen=True, kw_only=True):
    """A command as it was delivered."""

    body: CommandBody
    attempts: int = 0  # how often it has failed before, and waited in a tier


def read(delivery: Delivery) -> Task:
    """The task in a delivery. Raises `BadMessage` for what cannot be read, or has no business in this queue."""
    if len(delivery.body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"{len(delivery.body)} bytes, at most {MAX_BODY_BYTES}")
    envelope = open_envelope(texts(delivery.headers), AMQP_PREFIX)
    if envelope.type in frozenset(Fact):
        raise WrongBroker(f"{envelope.type} is a fact: it belongs on Kafka, not in {delivery.queue}")
    kind, body = read_command(envelope.type, envelope.schema_version, delivery.body)
    if queue_of(kind) != delivery.queue:
        raise BadMessage(f"{kind.value} belongs in {queue_of(kind).value}, not in {delivery.queue}")
    if not is_id(envelope.id, "cmd"):
        raise BadMessage("the message's id is not that of a command")
    if not is_id(body.order_id, "ord") and not isinstance(body, WakeOrder):
        raise BadMessage("order_id is not the id of an order")
    return Task(
        id=envelope.id,
        kind=kind,
        order_id=body.order_id,
        traceparent=envelope.traceparent,
        body=body,
        attempts=attempts(delivery.headers),
    )


def named(headers: Mapping[str, Any]) -> Named | None:
    """What the headers alone say, for a message whose body nobody may look into."""
    given = texts(headers)
    kind, key, order_id = (given.get(f"{AMQP_PREFIX}{name}", "") for name in ("type", "id", "subject"))
    if kind not in _COMMANDS or not is_id(key, "cmd") or not is_id(order_id, "ord"):
        return None
    return Named(id=key, kind=Command(kind), order_id=order_id, traceparent=given.get(TRACEPARENT, ""))
