"""The only place that hands the audit trail to the ledger: `audit.events`, its offsets and rows in one transaction."""

from collections.abc import Sequence

from adapters.postgres import Connection
from audit import events, ledger
from orders.envelope import Envelope
from orders.errors import BadMessage
from orders.names import AUDIT_TOPIC
from streams import metrics
from streams.group import Group, Incoming


class Audit(Group):
    """Stores every event; one that does not fit its chain is set aside, and the rest goes on."""

    noun = "audit"
    schema = "audit"
    linger_ms = 500
    durable = True

    def __init__(self, *, topic: str = AUDIT_TOPIC, name: str = "") -> None:
        super().__init__(topic=topic, name=name)

    def read(self, envelope: Envelope, body: bytes) -> events.Event:
        event = events.read_event(envelope.schema_version, body)
        if (event.chain, event.position, event.event_id) != (envelope.subject, envelope.position, envelope.id):
            raise BadMessage("the headers name another chain, position or event than the body")
        return event

    async def prepare(self, db: Connection) -> None:
        await ledger.prepare(db)

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        metrics.BROKEN.inc(await ledger.store(db, [item.fact for item in taken]))

    async def repeated(self, db: Connection, again: Sequence[Incoming]) -> None:
        metrics.BROKEN.inc(await ledger.compare(db, [(item.order_id, item.position or 0, item.body) for item in again]))
