"""The only place for letters about failures of an order that its own compensation has answered: born resolved.

They are written in the transaction of the change that answers them, so that every failure of an order is in one place.
"""

from typing import Final

from adapters.postgres import Connection
from orders.decide import Change, Event, Failure
from orders.facts import SCHEMA_VERSION
from orders.failures import CATEGORY
from orders.names import ORDERS_TOPIC
from outbox.letters.fingerprint import fingerprint
from outbox.letters.ingest import ingest
from outbox.letters.model import Letter, LetterState, Source, letter_id

CONSUMER: Final = "orders"
COMPENSATED: Final = "compensated"


async def record(conn: Connection, change: Change) -> None:
    """Write the letter of a change that answers a failure, in the caller's transaction."""
    if change.failure is not None:
        await ingest(conn, [letter_of_change(change, change.failure, change.events[0])])


def letter_of_change(change: Change, failure: Failure, event: Event) -> Letter:
    """The letter: its message is the fact that tells of the failure, which nobody has to send again."""
    at = change.order.updated_at
    return Letter(
        letter_id=letter_id(event.event_id, CONSUMER), source=Source.ORDER, message_id=event.event_id, consumer=CONSUMER,
        queue="", order_id=change.order.order_id, type=event.type.value, schema_version=SCHEMA_VERSION,
        position=event.position, routing_key=ORDERS_TOPIC, priority=0, headers=change.headers, body=event.fact,
        failure_type=failure.type, category=CATEGORY[failure.type], reason=failure.type.value, error=event.type.value,
        message=failure.reason, stack="",
        fingerprint=fingerprint(CONSUMER, event.type.value, failure.type.value, event.type.value),
        attempts=1, generation=1, first_failed_at=at, last_failed_at=at, parked_at=at,
        state=LetterState.RESOLVED, resolution=COMPENSATED, resolved_by=failure.service, resolved_at=at,
    )  # fmt: skip
