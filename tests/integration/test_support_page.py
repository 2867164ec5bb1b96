"""What docs/support.md tells somebody to type works, as it stands there, in the order in which it stands there."""

import json
import re
from typing import Any

import pytest

from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.support_world import caught_up, delivered, signed
from tests.making import REPOSITORY

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")
TYPED = re.compile(r"""^    support "\$BASE([^"]+)"(?: --json '(.*)')?$""", re.MULTILINE)
CALLS = [(found[1], found[2]) for found in TYPED.finditer((REPOSITORY / "docs" / "support.md").read_text())]
RESOLUTIONS = sum("/resolution" in path for path, _ in CALLS)


async def test_the_page_shows_calls() -> None:
    assert len(CALLS) > 12


async def _typed(world: World, path: str, body: str | None, names: dict[str, str]) -> Any:
    for name, value in names.items():
        path = path.replace(f"${name}", value)
    assert "$" not in path, path
    headers = world.token("support", "sue")
    if body is None:
        return await world.http.get(path, headers=headers)
    return await world.http.post(path, json=json.loads(body), headers=headers)


async def test_every_call_of_the_page_does_what_the_page_says(world: World) -> None:
    names = {"CUSTOMER": world.customer, "ORDER": await delivered(world), "DISPUTE": ""}
    await caught_up(world)
    await signed(world)
    names["EVENT"] = str(
        await world.pool.fetchval("SELECT audit_id FROM order_events WHERE order_id = $1 LIMIT 1", names["ORDER"])
    )
    for path, body in CALLS:
        if body and '"cancel"' in body:  # of an order that is not delivered yet
            answer = await _typed(world, path, body, {**names, "ORDER": await world.paid()})
        elif "/resolution" in path:  # each of them ends a dispute: each has one of its own
            opened = await _typed(world, "/v1/support/orders/$ORDER/disputes", '{"kind": "late", "claim": "x"}', {
                "ORDER": await delivered(world)})  # fmt: skip
            answer = await _typed(world, path, body, {**names, "DISPUTE": opened.json()["dispute_id"]})
        else:
            answer = await _typed(world, path, body, names)
        assert answer.status_code in (200, 201), (path, answer.text)
        if "proof" not in path:
            names["DISPUTE"] = names["DISPUTE"] or answer.json().get("dispute_id", "")
    assert RESOLUTIONS == 3
