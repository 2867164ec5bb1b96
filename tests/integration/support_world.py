"""What support's tests share: orders that have come to their end, the ledger and the read model catching up, what is on record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from adapters.postgres import connect
from adapters.settings import Settings
from audit.events import Event, read_event
from audit.ledger import prepare, store
from orders import chain
from orders.decide import Cause, Wish, system
from orders.facts import SCHEMA_VERSION, read_fact
from orders.lifecycle import Action
from orders.names import AUDIT_TOPIC, ORDERS_TOPIC, Command, Money
from outbox.transition import load, move, waits
from streams import sql as streams_sql
from streams.checkpointing import Checkpointing
from streams.support import _columns, told
from tests.integration.gateway_world import World


def slug(answer: httpx.Response) -> str:
    return str(answer.json()["type"].rpartition("/")[2])


async def ask(world: World, path: str, role: str = "support", who: str = "sue", **params: Any) -> httpx.Response:
    return await world.http.get(f"/v1/support{path}", params=params, headers=world.token(role, who))


async def do(world: World, path: str, body: Any, who: str = "sue") -> httpx.Response:
    return await world.http.post(f"/v1/support{path}", json=body, headers=world.token("support", who))


async def delivered(world: World) -> str:
    """An order that was paid for, carried and delivered; its driver is free again."""
    order_id = await world.assigned()
    for step in ("pick-up", "deliver"):
        answer = await world.http.post(f"/v1/driver/orders/{order_id}/{step}", headers=world.as_driver)
        assert answer.status_code == 200, answer.text
    return order_id


async def deeds(world: World, of_chain: str) -> list[dict[str, Any]]:
    """The audit events of a chain that wait to be published, in order."""
    rows = await world.pool.fetch(
        "SELECT body FROM outbox WHERE destination = $1 AND aggregate_id = $2 ORDER BY position", AUDIT_TOPIC, of_chain
    )
    return [msgspec.json.decode(row["body"]) for row in rows]


async def audit_bodies(world: World) -> list[bytes]:
    """Every audit event of this database, on its way or in the ledger."""
    async with connect(world.settings.audit_migrate_url, service="test") as owner:
        stored = [row["body"] for row in await owner.fetch("SELECT body FROM audit.events ORDER BY leaf_index")]
    under_way = await world.pool.fetch("SELECT body FROM outbox WHERE destination = $1 ORDER BY id", AUDIT_TOPIC)
    return [*stored, *(row["body"] for row in under_way)]


async def caught_up(world: World) -> int:
    """What is on its way to the ledger and to support's read model is there now. How many audit events there were."""
    rows = await world.pool.fetch("SELECT id, destination, position, body FROM outbox WHERE broker = 'kafka' ORDER BY id")
    events = [read_event(1, row["body"]) for row in rows if row["destination"] == AUDIT_TOPIC]
    facts = [read_fact(SCHEMA_VERSION, row["body"]) for row in rows if row["destination"] == ORDERS_TOPIC and row["position"]]
    async with connect(world.settings.audit_url, service="test") as writer:
        await prepare(writer)
        async with writer.transaction():
            assert await store(writer, _in_order(events)) == 0
    if facts:
        await world.pool.execute(streams_sql.TELL_SUPPORT, *_columns(told(facts)))
    await world.pool.execute("DELETE FROM outbox WHERE broker = 'kafka' AND id = ANY ($1)", [row["id"] for row in rows])
    return len(events)


def _in_order(events: Sequence[Event]) -> list[Event]:
    return sorted(events, key=lambda event: (event.chain, event.position))


def log_of(world: World) -> Settings:
    """The log of this database has keys and files of its own."""
    name = urlsplit(world.settings.postgres_dsn).path.strip("/")
    return msgspec.structs.replace(world.settings, home=str(Path(world.settings.home) / "logs" / name))


async def signed(world: World) -> int:
    """A checkpoint over all that is in the ledger, signed and served as the log's own process does it; its size."""
    async with connect(world.settings.audit_url, service="test") as own, connect(
        world.settings.postgres_dsn, service="test"
    ) as main:  # fmt: skip
        return await Checkpointing(log_of(world)).step(own, main)


def whole(events: Sequence[dict[str, Any]]) -> bool:
    return chain.first_broken(events) is None


async def cancelled(world: World) -> str:
    """An order that was paid for and cancelled by its customer; its money is still to go back."""
    order_id = await world.paid()
    answer = await world.http.post(f"/v1/orders/{order_id}/cancel", headers=world.as_customer)
    assert answer.status_code == 200, answer.text
    return order_id


async def money_back(world: World, order_id: str, amount: int, reason: str) -> None:
    """The refund that a worker would record, as the last step of the command that asks for it."""
    order, _ = await load(world.pool, order_id)
    (command,) = [key for key, entry in order.pending.items() if entry.type == Command.PAYMENT_REFUND]
    data = {"refund_id": "re_1", "refund_reason": reason, "amount": amount, "refunded_total": amount}
    changes = {"refunded": amount, "money": Money.PART_REFUNDED}
    cause = Cause(id=command, actor=system("worker-payments"), service="worker-payments", command=Command.PAYMENT_REFUND)
    wish = Wish(action=Action.RECORD_REFUND, reason=reason, changes=changes, data=data)
    await move(world.pool, order_id, wish, cause, waits(world.settings))
