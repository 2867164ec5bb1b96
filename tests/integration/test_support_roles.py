"""Whose support's routes are: each refuses every role that it is not for, whatever they ask for, and changes nothing."""

from typing import Any

import pytest

from gateway.support import router
from orders.ids import new_id
from orders.names import Role
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.support_world import delivered, do

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")
ROUTES = sorted((route.path, method) for route in router.routes for method in route.methods if method != "OPTIONS")
AUDITORS = {
    "/v1/support/audit",
    "/v1/support/orders/{order_id:str}/integrity",
    "/v1/support/orders/{order_id:str}/proof/{event_id:str}",
}
TABLES = ("orders", "disputes", "dispute_evidence", "audit_chains", "personal_keys", "outbox")


async def _everything(world: World) -> list[Any]:
    return [await world.pool.fetch(f"SELECT to_jsonb(t) AS row FROM {table} t ORDER BY 1") for table in TABLES]  # noqa: S608


async def test_every_route_of_the_design_is_there() -> None:
    orders = "/v1/support/orders/{order_id:str}"
    assert {
        ("/v1/support/orders", "GET"), (f"{orders}/investigation", "GET"), (f"{orders}/timeline", "GET"),
        (f"{orders}/integrity", "GET"), ("/v1/support/audit", "GET"), (f"{orders}/interventions", "POST"),
        (f"{orders}/disputes", "POST"), ("/v1/support/disputes", "GET"), ("/v1/support/disputes/{dispute_id:str}/resolution", "POST"),
    } <= set(ROUTES)  # fmt: skip


@pytest.mark.parametrize(("path", "method"), ROUTES)
async def test_a_route_of_support_is_closed_to_everybody_else(world: World, path: str, method: str) -> None:
    order_id = await delivered(world)
    opened = await do(world, f"/orders/{order_id}/disputes", {"kind": "late", "claim": "x"})
    ids = {"order_id": order_id, "dispute_id": opened.json()["dispute_id"], "event_id": new_id("aud")}
    address = path.replace(":str", "").format(**ids)
    allowed = {Role.SUPPORT, Role.AUDITOR} if path in AUDITORS else {Role.SUPPORT}
    before = await _everything(world)
    owners = {Role.CUSTOMER: world.customer, Role.RESTAURANT: world.restaurant, Role.DRIVER: world.driver}
    for role in sorted(set(Role) - allowed - {Role.SYSTEM}):
        answer = await world.http.request(
            method, address, json={}, headers=world.token(role.value, owners.get(role, "someone"))
        )
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "wrong-role"), role
        assert order_id not in answer.text
    answer = await world.http.request(method, address, json={})
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (401, "unauthenticated")
    assert await _everything(world) == before
