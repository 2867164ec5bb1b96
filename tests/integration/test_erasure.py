"""Erasing a customer: keys destroyed, addresses blanked, the record whole and still verifying, and refused while it is needed."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from adapters.postgres import PostgresError, connect
from console.audit_erase import erase as verb
from orders import chain
from orders.ids import new_id
from orders.privacy import Erased
from outbox import personal_keys
from outbox.erasure import NoSuchCustomer, StillNeeded, erase
from outbox.letters.model import Source
from outbox.transition import utc_now
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.letters_desk import letter, park
from tests.integration.support_world import ask, audit_bodies, cancelled, caught_up, deeds, delivered, do, whole

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _erased(world: World, **values: Any) -> Any:
    return await erase(world.pool, world.customer, reason="asked for it", actor="ann", cause="req_1", now=utc_now(), **values)


async def _all(world: World) -> list[Any]:
    tables = ("orders", "personal_keys", "support_orders", "fraud_orders", "audit_chains", "outbox")
    return [await world.pool.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t ORDER BY 1") for table in tables]  # noqa: S608


async def _looked_back_on(world: World, order_id: str) -> None:
    await world.pool.execute(
        "INSERT INTO fraud_orders VALUES ($1, $2, 'pm_card_visa', 52.5, 13.4, 'EUR', 2550, now())", order_id, world.customer
    )


async def test_after_an_erasure_nobody_reads_the_address_and_the_record_is_whole(world: World) -> None:
    order_id = await delivered(world)
    await _looked_back_on(world, order_id)
    opened = (await do(world, f"/orders/{order_id}/disputes", {"kind": "late", "claim": "Mrs Miller waited"})).json()
    path = f"/disputes/{opened['dispute_id']}/resolution"
    await do(world, path, {"resolution": "refuse", "reason": "too_late", "note": "Mrs Miller again"})
    await caught_up(world)
    before = await audit_bodies(world)
    key_id = await world.pool.fetchval("SELECT key_id FROM personal_keys WHERE customer_id = $1", world.customer)
    told = await _erased(world)
    assert (told.keys, told.orders, told.places) == ([key_id], 1, 1)
    with pytest.raises(Erased):
        await personal_keys.find(world.pool, key_id)
    assert (await audit_bodies(world))[: len(before)] == before
    found = (await ask(world, f"/orders/{order_id}/investigation")).json()
    assert found["order"]["address"] == {
        "street": "erased", "city": "erased", "postal_code": "erased", "latitude": 0.0, "longitude": 0.0, "erased": True
    }  # fmt: skip
    assert found["integrity"]["held"], found["integrity"]["words"]
    assert [step["erased"] for step in found["timeline"] if step["action"] in ("order.placed", "dispute.opened")] == [
        True,
        True,
    ]
    (dispute,) = (await ask(world, "/disputes", order_id=order_id)).json()["disputes"]
    assert (dispute["claim"], dispute["answer"], dispute["erased"]) == (None, None, True)
    for table in ("orders", "support_orders", "fraud_orders", "disputes", "personal_keys"):
        rows = await world.pool.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE customer_id = $1", world.customer)  # noqa: S608
        assert all("Main Street" not in row["row"] and "10115" not in row["row"] for row in rows), table
        assert all("Miller" not in row["row"] for row in rows), table
    assert await world.count("SELECT count(*) FROM fraud_orders WHERE customer_id = $1", world.customer) == 0


async def test_an_erasure_is_itself_on_record_with_its_reason(world: World) -> None:
    await cancelled(world)
    who = new_id("sup")
    await erase(world.pool, world.customer, reason="asked for it", actor=who, cause="req_1", now=utc_now())
    (deed,) = await deeds(world, f"desk.operator:{who}")
    assert (deed["action"], deed["reason"], deed["details"]["customer_id"]) == (
        "customer.erased",
        "asked for it",
        world.customer,
    )
    assert whole([deed])


async def test_an_order_under_way_needs_its_address(world: World) -> None:
    await delivered(world)
    order_id = await world.paid()
    before = await _all(world)
    with pytest.raises(StillNeeded, match=order_id):
        await _erased(world)
    assert await _all(world) == before


async def test_an_open_dispute_needs_what_was_said(world: World) -> None:
    order_id = await delivered(world)
    await do(world, f"/orders/{order_id}/disputes", {"kind": "late", "claim": "x"})
    before = await _all(world)
    with pytest.raises(StillNeeded, match="dsp_"):
        await _erased(world)
    assert await _all(world) == before


async def test_a_letter_that_is_still_to_be_sent_needs_the_address_and_one_that_ended_is_blanked(world: World) -> None:
    order_id = await delivered(world)
    fact = await world.pool.fetchval("SELECT fact FROM order_events WHERE order_id = $1 AND position = 1", order_id)
    made = letter(
        order_id=order_id, type="order.placed", source=Source.FACT, body=fact, topic="orders.events", consumer="fraud"
    )
    (letter_id,) = await park(world.pool, [made])
    with pytest.raises(StillNeeded, match=letter_id):
        await _erased(world)
    await world.pool.execute(
        "UPDATE dead_letters SET state = 'resolved', resolved_at = now(), resolution = 'replayed' WHERE letter_id = $1",
        letter_id,
    )
    assert (await _erased(world)).letters == 1
    assert await world.pool.fetchval("SELECT body FROM dead_letters WHERE letter_id = $1", letter_id) == b'{"erased": true}'
    with pytest.raises(PostgresError):
        await world.pool.execute("UPDATE dead_letters SET body = 'x' WHERE letter_id = $1", letter_id)


async def test_a_rehearsal_says_what_would_be_erased_and_erases_nothing(world: World) -> None:
    await delivered(world)
    before = await _all(world)
    told = await _erased(world, dry_run=True)
    assert (len(told.keys), told.orders, told.dry_run) == (1, 1, True)
    assert await _all(world) == before


async def test_a_customer_that_there_is_not_is_refused(world: World) -> None:
    with pytest.raises(NoSuchCustomer):
        await _erased(world)


async def test_a_new_order_of_an_erased_customer_has_a_key_of_its_own_and_is_erased_by_itself(world: World) -> None:
    first = await delivered(world)
    await _erased(world)
    second = await delivered(world)
    await caught_up(world)
    streets = [
        (await ask(world, f"/orders/{order_id}/investigation")).json()["order"]["address"]["street"]
        for order_id in (first, second)
    ]
    assert streets == ["erased", "Main Street 1"]
    assert len((await _erased(world)).keys) == 1


async def test_a_key_that_was_destroyed_cannot_be_put_back_by_the_application(world: World) -> None:
    await delivered(world)
    await _erased(world)
    put_back = "UPDATE personal_keys SET key = decode(repeat('00', 64), 'hex'), destroyed_at = NULL WHERE customer_id = $1"
    with pytest.raises(PostgresError, match="can be destroyed"):
        await world.pool.execute(put_back, world.customer)


async def test_the_log_verifies_after_an_erasure_chain_by_chain(world: World) -> None:
    order_id = await delivered(world)
    await caught_up(world)
    await _erased(world)
    await caught_up(world)
    async with connect(world.settings.audit_reader_url, service="test") as reader:
        rows = await reader.fetch("SELECT body FROM audit.events WHERE chain = $1 ORDER BY position", order_id)
    assert chain.first_broken([msgspec.json.decode(row["body"]) for row in rows]) is None


async def _typed(world: World, *words: str) -> Any:
    environment = {"RUSHLINE_POSTGRES_DSN": world.settings.postgres_dsn, "RUSHLINE_HOME": "/nonexistent"}
    return await asyncio.to_thread(CliRunner().invoke, verb, list(words), env=environment)


async def test_the_command_erases_and_says_what(world: World) -> None:
    await delivered(world)
    tried = await _typed(world, world.customer, "--reason", "asked for it", "--dry-run", "--as", "ann", "--json")
    assert (tried.exit_code, json.loads(tried.output)["dry_run"]) == (0, True), tried.output
    done = await _typed(world, world.customer, "--reason", "asked for it", "--as", "ann")
    assert done.exit_code == 0, done.output
    assert "1 keys were destroyed, the addresses of 1 orders blanked" in done.output
    again = await _typed(world, new_id("cus"), "--reason", "asked for it", "--as", "ann")
    assert (again.exit_code, "there are no orders" in again.output) == (1, True), again.output
    without = await _typed(world, world.customer)
    assert without.exit_code == 2
