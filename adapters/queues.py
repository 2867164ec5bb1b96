"""The only place that looks at RabbitMQ from outside: what its queues hold, and a message put in by hand."""

import base64
from collections.abc import Mapping
from typing import Any, Final

from adapters.settings import Settings
from adapters.topology import management

_VHOST: Final = "%2F"


async def queue_depths(settings: Settings) -> dict[str, int]:
    """Messages in each queue, those in the hands of consumers included. The broker counts every few seconds.

    Raises `TopologyError` where the management interface does not answer.
    """
    async with management(settings) as session, session.get(f"queues/{_VHOST}") as response:
        return {queue["name"]: int(queue.get("messages", 0)) for queue in await response.json()}


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
        f"exchanges/{_VHOST}/{exchange}/publish", json=message
    ) as response:  # fmt: skip
        return bool((await response.json())["routed"])
