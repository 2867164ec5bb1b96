"""What is done and looked at, beside an order's own steps, is in the audit trail with its deed, or neither is."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from adapters.postgres import Pool
from orders import chain
from orders.decide import Cause
from orders.facts import Actor
from orders.ids import new_id
from orders.names import Act, Role
from orders.privacy import new_key, reveal
from outbox.deeds import Deed, desk_of, looks_at, record
from outbox.transition import load
from tests.making import placed

NOW = datetime(2026, 3, 14, 18, 30, tzinfo=UTC)


def _cause(who: str = "ann") -> Cause:
    return Cause(id=new_id("cmd"), actor=Actor(Role.SUPPORT, who), service="gateway", traceparent="00-" + "a" * 32 + "-1-01")


async def _events(pool: Pool, of_chain: str) -> list[dict[str, Any]]:
    rows = await pool.fetch("SELECT body FROM outbox WHERE aggregate_id = $1 ORDER BY position", of_chain)
    return [msgspec.json.decode(row["body"]) for row in rows]


async def _look(pool: Pool, order_id: str, **values: Any) -> None:
    async with pool.acquire() as conn, conn.transaction():
        deed = Deed(act=Act.ORDER_VIEWED, chain=looks_at(order_id), order_id=order_id, **values)
        await record(conn, [deed], _cause(), NOW)


async def test_looks_are_a_chain_of_their_own_and_the_order_does_not_move(pool: Pool) -> None:
    order = await placed(pool)
    for what in ("timeline", "investigation"):
        await _look(pool, order.order_id, details={"what": what})
    found = await _events(pool, looks_at(order.order_id))
    assert [event["details"]["what"] for event in found] == ["timeline", "investigation"]
    assert chain.first_broken(found) is None
    assert {chain.chain_of(event) for event in found} == {looks_at(order.order_id)}
    assert (await load(pool, order.order_id))[0].position == order.position


async def test_a_deed_that_is_rolled_back_leaves_no_link(pool: Pool) -> None:
    order_id = new_id("ord")
    await _look(pool, order_id)
    async with pool.acquire() as conn:
        undone = conn.transaction()
        await undone.start()
        await record(conn, [Deed(act=Act.ORDER_VIEWED, chain=looks_at(order_id), order_id=order_id)], _cause(), NOW)
        await undone.rollback()
    await _look(pool, order_id)
    found = await _events(pool, looks_at(order_id))
    assert [event["position"] for event in found] == [1, 2]
    assert chain.first_broken(found) is None


async def test_many_people_at_once_make_one_unbroken_chain(pool: Pool) -> None:
    order_id = new_id("ord")
    await asyncio.gather(*(_look(pool, order_id, details={"n": n}) for n in range(30)))
    found = await _events(pool, looks_at(order_id))
    assert [event["position"] for event in found] == list(range(1, 31))
    assert chain.first_broken(found) is None
    assert {event["details"]["n"] for event in found} == set(range(30))


async def test_several_deeds_of_one_transaction_are_each_in_their_chain(pool: Pool) -> None:
    who = new_id("sup")
    chains = [desk_of(who), looks_at(new_id("ord")), desk_of(who)]
    async with pool.acquire() as conn, conn.transaction():
        await record(conn, [Deed(act=Act.ORDERS_SEARCHED, chain=each) for each in chains], _cause(who), NOW)
    assert [event["position"] for event in await _events(pool, desk_of(who))] == [1, 2]
    assert [event["position"] for event in await _events(pool, chains[1])] == [1]


async def test_what_is_personal_is_in_the_outbox_only_encrypted(pool: Pool) -> None:
    order_id, key = new_id("ord"), new_key()
    await _look(pool, order_id, private={"note": "lives at Rua Augusta"}, key=key)
    (row,) = await pool.fetch("SELECT body FROM outbox WHERE aggregate_id = $1", looks_at(order_id))
    assert b"Augusta" not in row["body"]
    event = msgspec.json.decode(row["body"])
    assert reveal(key, event["chain"], 1, event["personal"]) == {"note": "lives at Rua Augusta"}


async def test_details_that_are_too_large_are_refused_and_nothing_is_written(pool: Pool) -> None:
    order_id = new_id("ord")
    with pytest.raises(chain.NotCanonicalError, match="61440"):
        await _look(pool, order_id, details={"text": "x" * chain.MAX_EVENT_BYTES})
    assert await _events(pool, looks_at(order_id)) == []
    assert await pool.fetchval("SELECT count(*) FROM audit_chains WHERE chain = $1", looks_at(order_id)) == 0
