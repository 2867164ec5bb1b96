"""The only place for what an investigation is made of: an order, its events as bytes, and what is kept beside them."""

from datetime import datetime
from typing import Any

import msgspec

from audit.investigation.model import Actor


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An audit event as its bytes tell it."""

    event_id: str
    fact_id: str | None = None
    chain: str | None = None
    order_id: str | None = None
    position: int
    action: str
    actor: Actor
    previous_state: str | None = None
    new_state: str | None = None
    reason: str | None = None
    details: dict[str, Any] = {}
    personal: dict[str, str] | None = None
    service: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    occurred_at: datetime
    prev_hash: str
    hash: str


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the log: its bytes and its place."""

    chain: str
    position: int
    leaf_index: int | None
    body: bytes


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of an order's chains. `covered`: size and time of the first checkpoint above its last leaf. `archived`:
    leaves of the order's time have left it for the archive, and were not fetched from there.
    """

    leaves: list[Leaf]
    set_aside: list[tuple[str, int, str]]
    log_size: int
    covered: tuple[int, datetime] | None
    archived: bool = False
    held: list[dict[str, Any]] = []


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """What an investigation is made of. `ledger` None: it could not be reached. `away` says why, also of its archive."""

    order: Any  # orders.order.Order
    own: list[Leaf]  # the orders' own copy, 30 days
    looks_head: tuple[int, str] | None
    failures: list[dict[str, Any]]
    held: list[dict[str, Any]]
    disputes: list[dict[str, Any]]
    keys: dict[str, bytes | None]
    ledger: Ledger | None
    away: str = ""

    @property
    def elsewhere(self) -> str:
        """Where events may be that are not at hand. Empty: nowhere, and one that is missing is gone."""
        if self.ledger is None:
            return "the ledger, which is away"
        return f"the archive{f' ({self.away})' if self.away else ''}" if self.ledger.archived else ""
