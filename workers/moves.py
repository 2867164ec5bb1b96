"""The only place where a worker publishes: a failed command to its tier, or to a dead queue. Confirmed, body as it was sent."""

from datetime import datetime
from typing import Any, Final, Protocol

from adapters.rabbitmq_consumer import Delivery
from orders.names import POISON, PRIORITY_RETURNED
from workers.judge import Park, Wait, reason_of
from workers.task import ATTEMPTS, attempts

FIRST_FAILED_AT: Final = "rushline-first-failed-at"
LAST_ERROR: Final = "rushline-last-error"
LAST_MESSAGE: Final = "rushline-last-error-message"
CONSUMER: Final = "rushline-consumer"
REASON: Final = "rushline-reason"
PARKED_AT: Final = "rushline-parked-at"
QUARANTINED_AT: Final = "quarantined_at"
_LONGEST_MESSAGE: Final = 300
_BROKERS_OWN: Final = "x-"  # x-death and its like: what the broker says of this trip, not of the message


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
        self._publisher, self._time_scale = publisher, time_scale

    async def to_tier(self, delivery: Delivery, verdict: Wait, error: BaseException, now: datetime) -> None:
        """Into its tier, from which it comes back to its work queue with a higher priority."""
        headers = _headers(delivery, error, now)
        await self._publisher.publish(
            verdict.tier.name,
            delivery.routing_key,
            delivery.body,
            headers,
            max(delivery.priority, PRIORITY_RETURNED),
            delivery.message_id,
            max(1, round(verdict.tier.wait_s * 1000 / self._time_scale)),
        )

    async def to_dead_queue(self, delivery: Delivery, verdict: Park, error: BaseException, now: datetime) -> None:
        """Out of the way for good, with the reason."""
        parked_at = QUARANTINED_AT if verdict.queue == POISON else PARKED_AT
        headers = {**_headers(delivery, error, now), REASON: verdict.reason, parked_at: now.isoformat()}
        await self._publisher.publish(
            verdict.queue, delivery.routing_key, delivery.body, headers, delivery.priority, delivery.message_id
        )


def _headers(delivery: Delivery, error: BaseException, now: datetime) -> dict[str, Any]:
    kept = {name: _sendable(value) for name, value in delivery.headers.items() if not name.startswith(_BROKERS_OWN)}
    return {
        FIRST_FAILED_AT: now.isoformat(),
        **kept,
        ATTEMPTS: str(attempts(delivery.headers) + 1),
        LAST_ERROR: f"{type(error).__name__} ({reason_of(error)})",
        LAST_MESSAGE: str(error)[:_LONGEST_MESSAGE],
        CONSUMER: delivery.queue,
    }


def _sendable(value: Any) -> Any:
    """Texts in no known encoding arrive as bytes, which the driver reads and cannot send."""
    match value:
        case bytes():
            return value.decode(errors="backslashreplace")
        case dict():
            return {name: _sendable(each) for name, each in value.items()}
        case list():
            return [_sendable(each) for each in value]
        case _:
            return value
