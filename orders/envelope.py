"""The only place that knows how a message looks on each broker: CloudEvents 1.0 attributes in binary mode, W3C trace.

Kafka: headers `ce_*` (the Kafka protocol binding). RabbitMQ: headers `cloudEvents_*` (the AMQP binding is written for
AMQP 1.0; its prefix is used on 0-9-1 too). The body is JSON on both, as it was written into the outbox.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from orders.errors import BadMessage

SOURCE: Final = "/rushline/orders"
KAFKA_PREFIX: Final = "ce_"
AMQP_PREFIX: Final = "cloudEvents_"
CONTENT_TYPE: Final = "application/json"
TRACEPARENT: Final = "traceparent"
MAX_BODY_BYTES: Final = 1_000_000  # of a message of ours, on either broker


class Broker(StrEnum):
    """The two lanes of the outbox."""

    RABBITMQ = "rabbitmq"
    KAFKA = "kafka"


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """One message to be, as the transaction writes it.

    `destination`: a topic; or a routing key on `commands`; or `<exchange>/<routing key>` on another exchange of RabbitMQ's, a
    tier (with the header `orders.parking.WAIT_MS`) or a dead queue's (the routing key may then be empty).
    """

    event_id: str
    aggregate_type: str = "order"
    aggregate_id: str
    position: int | None
    type: str
    schema_version: int
    body: bytes
    headers: dict[str, str]
    broker: Broker
    destination: str
    priority: int = 0
    occurred_at: datetime


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer learns from the headers before it reads the body."""

    id: str
    type: str
    subject: str
    schema_version: int
    position: int | None
    time: str
    traceparent: str


def attributes(row: OutboxRow, prefix: str) -> dict[str, str]:
    """The message's headers. `position` and `schemaversion` are CloudEvents extension attributes."""
    headers = {
        f"{prefix}specversion": "1.0",
        f"{prefix}id": row.event_id,
        f"{prefix}type": row.type,
        f"{prefix}source": SOURCE,
        f"{prefix}subject": row.aggregate_id,
        f"{prefix}time": row.occurred_at.isoformat(),
        f"{prefix}schemaversion": str(row.schema_version),
        **row.headers,
    }
    if row.position is not None:
        headers[f"{prefix}position"] = str(row.position)
    return headers


def open_envelope(headers: Mapping[str, str], prefix: str) -> Envelope:
    """The attributes of a message. Raises `BadMessage` naming what is missing or is not a number."""
    try:
        position = headers.get(f"{prefix}position")
        return Envelope(
            id=headers[f"{prefix}id"],
            type=headers[f"{prefix}type"],
            subject=headers[f"{prefix}subject"],
            schema_version=int(headers[f"{prefix}schemaversion"]),
            position=None if position is None else int(position),
            time=headers.get(f"{prefix}time", ""),
            traceparent=headers.get(TRACEPARENT, ""),
        )
    except KeyError as error:
        raise BadMessage(f"the message has no header {error}") from error
    except ValueError as error:
        raise BadMessage(f"a header is not a number: {error}") from error


def new_traceparent() -> str:
    """A W3C `traceparent` for work that starts here."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id(traceparent: str) -> str:
    """The trace that a `traceparent` belongs to: what ties together all that one request set off."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""  # noqa: PLR2004  # version, trace, parent, flags
