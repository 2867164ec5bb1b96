"""The only place where a worker publishes: a failed command to its tier, or to a dead queue. Confirmed, body as it was sent."""

from datetime import datetime
from typing import Any, Protocol

from adapters.rabbitmq_consumer import Delivery
from orders.names import POISON, PRIORITY_RETURNED
from orders.parking import PARKED_AT, QUARANTINED_AT, REASON
from workers import trail
from workers.judge import Park, Wait


class Publishes(Protocol):
    """What a move needs of the publisher: back only when the broker has stored the message, or a typed error."""

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        headers: dict[str, Any],
        priority: int,
        message_id: str,
        expiration_ms: int | None = None,
    ) -> None: ...


class Mover:
    """Publishes on a connection of its own. The caller acknowledges the original only after it returned."""

    def __init__(self, publisher: Publishes, time_scale: float) -> None:
        self._publisher, self.time_scale = publisher, time_scale

    async def to_tier(self, delivery: Delivery, verdict: Wait, error: BaseException, now: datetime) -> None:
        """Into its tier, from which it comes back to its work queue with a higher priority."""
        await self._publisher.publish(
            verdict.tier.name,
            delivery.routing_key,
            delivery.body,
            trail.failed(delivery, error, now, spends=verdict.spends),
            max(delivery.priority, PRIORITY_RETURNED),
            delivery.message_id,
            max(1, round(verdict.tier.wait_s * 1000 / self.time_scale)),
        )

    async def to_dead_queue(self, delivery: Delivery, verdict: Park, error: BaseException, now: datetime) -> None:
        """Out of the way for good, with the reason."""
        parked_at = QUARANTINED_AT if verdict.queue == POISON else PARKED_AT
        headers = {
            **trail.failed(delivery, error, now, spends=True),
            REASON: verdict.reason,
            parked_at: now.isoformat(),
        }
        await self._publisher.publish(
            verdict.queue, delivery.routing_key, delivery.body, headers, delivery.priority, delivery.message_id
        )
