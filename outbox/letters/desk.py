"""The only place that writes into the audit trail what was done to letters, groups, replays and rules beside the orders' own steps.

A deed about an order is in the chain beside that order's own, so that no worker ever loses a race to it; one about none is in the
chain of who did it. In the caller's transaction, and last in it: chains are locked after everything else, everywhere.

What operators and rules say about messages stands here in clear: it is about our machinery, never about a customer.
"""

from datetime import datetime
from typing import Any, Final

from adapters.postgres import Connection
from orders.decide import Cause
from orders.facts import Actor
from orders.ids import is_id
from orders.names import Act, Role
from outbox.deeds import Deed, desk_of, looks_at, record

LIBRARY: Final = "library"
KEEPER: Final = "keeper"
_SERVICE: Final = "letters"
_RULE: Final = "rule:"
_SYSTEM: Final = frozenset({LIBRARY, KEEPER})


def actor_of(name: str) -> Actor:
    """A person, who is an operator; or a rule, the library or the keeper, which are the system."""
    return Actor(Role.SYSTEM if name in _SYSTEM or name.startswith(_RULE) else Role.OPERATOR, name)


def desk(name: str) -> str:
    """The chain of whoever acts: `desk.operator:ann`, `desk.rule:…`, `desk.system:keeper`."""
    return desk_of(name if name.startswith(_RULE) else f"{actor_of(name).type.value}:{name}")


async def tell(
    conn: Connection, act: Act, details: dict[str, Any], *, actor: str, cause: str, now: datetime, order_id: str | None = None,
    reason: str | None = None,
) -> None:  # fmt: skip
    """Record it. `cause`: of the deed, so that it can be told apart. Details that are None are left out."""
    about = order_id if order_id is not None and is_id(order_id, "ord") else None
    deed = Deed(
        act=act, chain=looks_at(about) if about else desk(actor), order_id=about, reason=reason,
        details={name: value for name, value in details.items() if value is not None},
    )  # fmt: skip
    await record(conn, [deed], Cause(id=cause, actor=actor_of(actor), service=_SERVICE), now)


async def viewed(conn: Connection, letter_id: str, order_id: str | None, *, part: str, actor: str, now: datetime) -> None:
    """Somebody read a letter: its body may hold where a customer lives."""
    details = {"letter_id": letter_id, "part": part}
    await tell(conn, Act.LETTER_VIEWED, details, actor=actor, cause=f"{letter_id}/viewed", now=now, order_id=order_id)
