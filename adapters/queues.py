"""The only place that looks at RabbitMQ from outside: what its queues hold, and a message put in by hand."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aio_pika
import msgspec

from adapters.settings import Settings
from adapters.topology import management
from adapters.topology_declared import TopologyError

_TIMEOUT_S: Final = 5


class QueueState(msgspec.Struct, frozen=True):
    """A queue as the broker last counted it, every few seconds. `expired`: what it has yet to hand over to where it dead-letters."""

    name: str
    messages: int = 0
    expired: int = msgspec.field(default=0, name="messages_dlx")
    consumers: int = 0


async def queue_states(settings: Settings) -> list[QueueState]:
    """Every queue of our virtual host. Raises `TopologyError` where RabbitMQ's management does not answer, or not this user."""
    async with management(settings) as session, session.get(f"queues/{_vhost(settings)}") as response:
        return msgspec.json.decode(await response.read(), type=list[QueueState])


async def queue_depths(settings: Settings) -> dict[str, int]:
    """Messages in each queue: what is ready now, or what the broker last counted (every few seconds, those in the hands of
    consumers included), whichever is more.

    Raises `TopologyError` where RabbitMQ does not answer.
    """
    async with management(settings) as session, session.get(f"queues/{_vhost(settings)}") as response:
        counted = {queue["name"]: int(queue.get("messages", 0)) for queue in await response.json()}
    ready = await _ready(settings, counted)
    return {name: max(count, ready[name]) for name, count in counted.items()}


async def _ready(settings: Settings, names: Iterable[str]) -> dict[str, int]:
    try:
        async with await aio_pika.connect(settings.rabbitmq_url, timeout=_TIMEOUT_S) as connection:
            channel = await connection.channel()
            queues = [await channel.declare_queue(name, passive=True) for name in names]
            return {queue.name: queue.declaration_result.message_count or 0 for queue in queues}
    except (aio_pika.exceptions.AMQPError, OSError, TimeoutError) as error:
        raise TopologyError(f"RabbitMQ does not answer: {error!r}.", "Start it (`rushline up`).") from error


async def put_by_hand(
    settings: Settings, *, exchange: str, routing_key: str, body: bytes, headers: Mapping[str, str], message_id: str
) -> bool:
    """Put one message in, as the RabbitMQ UI does. True where a queue took it."""
    message: dict[str, Any] = {
        "routing_key": routing_key,
        "payload": base64.b64encode(body).decode(),
        "payload_encoding": "base64",
        "properties": {"headers": dict(headers), "message_id": message_id, "delivery_mode": 2},
    }
    async with management(settings) as session, session.post(
        f"exchanges/{_vhost(settings)}/{exchange}/publish", json=message
    ) as response:  # fmt: skip
        return bool((await response.json())["routed"])


def _vhost(settings: Settings) -> str:
    return quote(urlsplit(settings.rabbitmq_url).path.removeprefix("/") or "/", safe="")
