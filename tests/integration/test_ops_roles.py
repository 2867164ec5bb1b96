"""Whose the operators' routes are: every one of them refuses everybody else, whatever they ask for."""

import pytest

from gateway.ops import router
from orders.ids import new_id
from orders.names import Role
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.letters_desk import everything, letter, park

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")
ROUTES = sorted((route.path, method) for route in router.routes for method in route.methods if method != "OPTIONS")
OTHERS = sorted(set(Role) - {Role.OPERATOR, Role.SYSTEM})


def _address(path: str, letter_id: str) -> str:
    ids = {
        "letter_id": letter_id, "fingerprint": "0" * 16, "edit_id": new_id("edt"), "replay_id": new_id("rpl"),
        "rule_id": new_id("rul"),
    }  # fmt: skip
    return path.replace(":str", "").format(**ids)


async def test_every_route_of_the_design_is_there() -> None:
    assert {
        ("/v1/ops/dead-letters", "GET"), ("/v1/ops/dead-letters/groups", "GET"), ("/v1/ops/dead-letters/{letter_id:str}", "GET"),
        ("/v1/ops/dead-letters/{letter_id:str}/replay", "POST"), ("/v1/ops/dead-letters/{letter_id:str}/discard", "POST"),
        ("/v1/ops/replays", "POST"), ("/v1/ops/rules", "GET"), ("/v1/ops/rules", "PUT"), ("/v1/ops/outbox", "GET"),
    } <= set(ROUTES)  # fmt: skip


@pytest.mark.parametrize(("path", "method"), ROUTES)
async def test_a_route_of_operators_is_closed_to_everybody_else(world: World, path: str, method: str) -> None:
    (letter_id,) = await park(world.pool, [letter()])
    before = await everything(world.pool)
    address = _address(path, letter_id)
    for role in OTHERS:
        answer = await world.http.request(method, address, json={"reason": "x"}, headers=world.token(role.value, "someone"))
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "wrong-role"), role
        assert letter_id not in answer.text
    answer = await world.http.request(method, address, json={"reason": "x"})
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (401, "unauthenticated")
    assert await everything(world.pool) == before
