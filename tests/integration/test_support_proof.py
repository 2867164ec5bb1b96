"""The proof that support hands out: it convinces whoever has the log's key, of the very bytes of the event, and of nothing else."""

import msgspec
import pytest

from audit import keys
from orders.ids import new_id
from orders.proofs import ProofError
from orders.tlog_proof import verify_proof
from outbox.deeds import looks_at
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.support_world import ask, audit_bodies, caught_up, deeds, delivered, log_of, signed, slug

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("role", ["support", "auditor"])
async def test_a_proof_convinces_whoever_has_the_logs_key_and_nothing_else(world: World, role: str) -> None:
    order_id = await delivered(world)
    await caught_up(world)
    await signed(world)
    steps = (await ask(world, f"/orders/{order_id}/timeline")).json()["steps"]
    bodies = {msgspec.json.decode(body)["event_id"]: body for body in await audit_bodies(world)}
    verifiers = keys.load(log_of(world)).verifiers
    for step in steps:
        answer = await ask(world, f"/orders/{order_id}/proof/{step['event_id']}", role=role)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain"), answer.text
        opened = verify_proof(answer.text, bodies[step["event_id"]], verifiers)
        assert opened.checkpoint.size > step["leaf_index"]
        with pytest.raises(ProofError):
            verify_proof(answer.text, bodies[step["event_id"]] + b" ", verifiers)
    seen = [each["details"]["part"] for each in await deeds(world, looks_at(order_id))]
    assert seen == ["timeline", *(f"proof of {step['event_id']}" for step in steps)]


async def test_an_event_that_no_checkpoint_covers_yet_is_to_be_asked_for_again(world: World) -> None:
    order_id = await world.placed()
    await caught_up(world)
    step = (await ask(world, f"/orders/{order_id}/timeline")).json()["steps"][0]
    answer = await ask(world, f"/orders/{order_id}/proof/{step['event_id']}")
    assert (answer.status_code, slug(answer)) == (503, "unavailable")
    assert answer.headers["retry-after"]
    await caught_up(world)
    await signed(world)
    assert (await ask(world, f"/orders/{order_id}/proof/{step['event_id']}")).status_code == 200


async def test_an_event_of_another_order_or_of_none_is_not_found(world: World) -> None:
    one, other = await world.placed(), await world.placed()
    await caught_up(world)
    await signed(world)
    event_id = (await ask(world, f"/orders/{one}/timeline")).json()["steps"][0]["event_id"]
    for order_id, given in ((other, event_id), (one, new_id("aud")), (one, "aud_1"), (new_id("ord"), event_id)):
        answer = await ask(world, f"/orders/{order_id}/proof/{given}")
        assert (answer.status_code, slug(answer)) == (404, "no-such-event")
    assert await deeds(world, looks_at(other)) == []
