"""The only place where support searches: orders in the read model, events in the ledger. A search is recorded with what it asked."""

from datetime import datetime
from typing import TYPE_CHECKING, Final

from adapters.postgres import Connection, Record
from gateway import support_sql as sql
from gateway.archived import Archived
from gateway.paging import after_order, after_time
from gateway.support_schemas import AuditFilter, OrderFilter, since
from orders.errors import Invalid
from orders.lifecycle import TABLE
from orders.names import State, audit_action
from outbox.deeds import looks_at
from outbox.letters.searching_sql import PLAN_FOR_VALUES

if TYPE_CHECKING:
    from audit.reader import Page

_LAST_LEAF: Final = 2**63 - 1
_DIGITS: Final = 18


async def orders(conn: Connection, wanted: OrderFilter, *, cursor: str | None, limit: int) -> list[Record]:
    """A page of orders, newest first; in the caller's transaction. Raises `Invalid`."""
    before, order_id = after_order(cursor)
    if wanted.placed_before is not None and (limit_at := since("placed_before", wanted.placed_before)) <= before:
        before, order_id = limit_at, ""
    await conn.execute(PLAN_FOR_VALUES)
    return await conn.fetch(
        sql.SEARCH_ORDERS, since("placed_from", wanted.placed_from), before, order_id, wanted.order_id, wanted.customer_id,
        wanted.restaurant_id, wanted.driver_id, wanted.state and wanted.state.value, wanted.city, wanted.disputed,
        wanted.flagged, limit,
    )  # fmt: skip


async def audit(conn: Connection, wanted: AuditFilter, *, cursor: str | None, limit: int) -> list[Record]:
    """A page of the ledger's audit events, newest first; in the caller's transaction on the ledger. Raises `Invalid`."""
    before, leaf = _behind(wanted, cursor)
    chains = None if wanted.order_id is None else [wanted.order_id, looks_at(wanted.order_id)]
    await conn.execute(PLAN_FOR_VALUES)
    asked = (since("from", wanted.from_), before, leaf, wanted.actor, chains, limit)
    actions = [wanted.action] if wanted.action else leading_to(wanted.state) if wanted.state else None
    if actions is None:
        return await conn.fetch(sql.SEARCH_AUDIT, *asked)
    return await conn.fetch(sql.SEARCH_ACTIONS, *asked, actions, wanted.state and wanted.state.value)


def leading_to(state: State) -> list[str]:
    """The audit actions that lead to this state: events are found by their action, and none is kept by its state."""
    return sorted({audit_action(fact) for row in TABLE if row.to is state for fact in row.facts})


async def archived(archive: Archived, wanted: AuditFilter, *, cursor: str | None, limit: int, floor: datetime | None) -> "Page":
    """The same of the archive, nothing older than `floor`: what the page is full of already. Raises `Invalid`, `ArchiveUnavailable`."""
    from audit.reader import Filter  # noqa: PLC0415  # as in gateway/archived.py

    actions = [wanted.action] if wanted.action else leading_to(wanted.state) if wanted.state else None
    asked = Filter(
        actor_id=wanted.actor, actions=actions, new_state=wanted.state and wanted.state.value, order_id=wanted.order_id,
        since=max(filter(None, (since("from", wanted.from_), floor))),
    )  # fmt: skip
    return await archive.older(asked, _behind(wanted, cursor), limit)


def _behind(wanted: AuditFilter, cursor: str | None) -> tuple[datetime, int]:
    """Before which time and leaf the page is."""
    before, leaf = _after(cursor)
    if wanted.before is not None and (limit_at := since("before", wanted.before)) <= before:
        return limit_at, -1
    return before, leaf


def _after(cursor: str | None) -> tuple[datetime, int]:
    if cursor is None:
        return after_order(None)[0], _LAST_LEAF
    at, leaf = after_time(cursor)
    if not (leaf.isascii() and leaf.isdigit() and len(leaf) <= _DIGITS):
        raise Invalid("cursor", "this is no cursor; give next_cursor of the page before, or none")
    return at, int(leaf)
