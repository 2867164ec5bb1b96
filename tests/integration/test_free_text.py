"""What people type about a customer is in no audit event and in no fact in clear, and support can read it all the same."""

import secrets

import pytest

from outbox.transition import load
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.support_world import ask, audit_bodies, caught_up, delivered, do

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Said:
    """Words that occur nowhere else, one for each place where somebody can type."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, where: str) -> str:
        word = f"Mrs Miller {where} {secrets.token_hex(8)}"
        self.words.append(word)
        return word


async def _all_that_is_typed(world: World, said: Said) -> list[str]:
    """Orders on which everybody types whatever they can."""
    street = said("street")
    address = {**world.order()["delivery_address"], "street": street, "postal_code": secrets.token_hex(6)}
    said.words.append(address["postal_code"])
    first = (await world.place(delivery_address=address)).json()["order_id"]
    answer = await world.http.post(f"/v1/orders/{first}/cancel", json={"reason": said("cancel")}, headers=world.as_customer)
    assert answer.status_code == 200, answer.text

    rejected, missing = await world.paid(), await world.paid()
    for order_id, items in ((rejected, []), (missing, ["itm_pizza"])):
        body = {"reason": said("reject"), "unavailable_items": items}
        answer = await world.http.post(f"/v1/restaurant/orders/{order_id}/reject", json=body, headers=world.as_restaurant)
        assert answer.status_code == 200, answer.text
        assert answer.json()["reason"] == "restaurant_rejected"

    released = await world.assigned()
    answer = await world.http.post(
        f"/v1/driver/orders/{released}/release", json={"reason": said("release")}, headers=world.as_driver
    )
    assert answer.status_code == 200, answer.text

    noted, disputed, refused = await world.paid(), await delivered(world), await delivered(world)
    for do_, note in (("note", said("note")), ("cancel", said("support cancels"))):
        assert (await do(world, f"/orders/{noted}/interventions", {"do": do_, "note": note})).status_code == 201
    for order_id, end in ((disputed, {"resolution": "refund"}), (refused, {"resolution": "refuse", "reason": "too_late"})):
        opened = (await do(world, f"/orders/{order_id}/disputes", {"kind": "other", "claim": said("claim")})).json()
        path = f"/disputes/{opened['dispute_id']}"
        evidence = {"text": said("evidence"), "reference": f"s3://x/{secrets.token_hex(8)}", "sha256": secrets.token_hex(32)}
        said.words.append(evidence["reference"])
        assert (await do(world, f"{path}/evidence", evidence)).status_code == 201
        assert (await do(world, f"{path}/resolution", {**end, "note": said("answer")})).status_code == 200
    return [first, rejected, missing, released, noted, disputed, refused]


async def test_nothing_that_people_type_is_in_the_audit_trail_in_clear(world: World) -> None:
    said = Said()
    orders = await _all_that_is_typed(world, said)
    await caught_up(world)
    for order_id in orders:
        assert (await ask(world, f"/orders/{order_id}/investigation")).status_code == 200
    await ask(world, "/disputes", customer_id=world.customer)
    bodies = b"\n".join(await audit_bodies(world))
    assert len(said.words) == 16
    for word in said.words:
        assert word.encode() not in bodies, word
    assert b"order.placed" in bodies  # what was searched is what there is


async def test_nor_is_it_in_the_facts_but_for_the_address(world: World) -> None:
    said = Said()
    orders = await _all_that_is_typed(world, said)
    rows = await world.pool.fetch("SELECT fact FROM order_events WHERE order_id = ANY ($1)", orders)
    facts = b"\n".join(row["fact"] for row in rows)
    assert [word for word in said.words if word.encode() in facts] == said.words[:2]  # street and postal code: 30 days


async def test_support_reads_what_was_typed(world: World) -> None:
    said = Said()
    orders = await _all_that_is_typed(world, said)
    seen = [(await ask(world, f"/orders/{order_id}/investigation")).text for order_id in orders]
    seen.append((await ask(world, "/disputes", customer_id=world.customer)).text)
    everything = "".join(seen)
    assert [word for word in said.words if word not in everything] == []


async def test_a_word_of_ours_stays_a_reason(world: World) -> None:
    order_id = await world.paid()
    await world.http.post(f"/v1/restaurant/orders/{order_id}/reject", json={"reason": "sold_out"}, headers=world.as_restaurant)
    order, _ = await load(world.pool, order_id)
    assert order.reason == "sold_out"


async def test_nobody_makes_a_key_for_a_customer_whose_order_is_not_theirs(world: World) -> None:
    order_id = await world.paid()
    await world.pool.execute("UPDATE personal_keys SET key = NULL, destroyed_at = now() WHERE customer_id = $1", world.customer)
    answer = await world.http.post(
        f"/v1/restaurant/orders/{order_id}/reject",
        json={"reason": "I know her"},
        headers=world.token("restaurant", "rst_other"),
    )
    assert answer.status_code == 404
    living = "SELECT count(*) FROM personal_keys WHERE customer_id = $1 AND key IS NOT NULL"
    assert await world.count(living, world.customer) == 0
