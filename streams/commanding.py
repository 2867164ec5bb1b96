"""The only place where a stream asks for something: a command row in the outbox, in the transaction of its offsets."""

from typing import Any, Final

from orders.commands import command_body, command_id
from orders.decide import command_row
from orders.envelope import TRACEPARENT, OutboxRow
from orders.names import PRIORITY, Command
from orders.order import Pending
from streams.group import Incoming, at_of, fact_of

_CAUSATION: Final = "causationid"
_CORRELATION: Final = "correlationid"


def command(kind: Command, cause: Incoming, detail: str, values: dict[str, Any]) -> OutboxRow:
    """The command that a fact causes. The same fact and detail make the same command, however often they are read."""
    fact, envelope = fact_of(cause), cause.envelope
    position = fact.position or 0
    body = command_body(kind, {"order_id": fact.order_id, "position": position, **values})
    headers = {
        TRACEPARENT: cause.headers.get(TRACEPARENT, ""),
        _CAUSATION: envelope.id if envelope else "",
        _CORRELATION: cause.headers.get(_CORRELATION, ""),
    }
    key = command_id(fact.order_id, position, kind, detail)
    return command_row(key, Pending(kind.value, body), PRIORITY[kind], headers, at_of(cause))
