"""What support sees of an order: found, told step by step, its record checked, every look on record, and the ledger away."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from adapters.postgres import connect, open_pool
from gateway.app import create_app
from gateway.context import Gateway
from orders.ids import new_id
from orders.lifecycle import Action
from outbox.deeds import looks_at
from outbox.transition import load, waits
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.letters_desk import letter, park
from tests.integration.support_world import ask, cancelled, caught_up, deeds, delivered, do, signed, slug, whole

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _investigated(world: World, order_id: str) -> Any:
    answer = await ask(world, f"/orders/{order_id}/investigation")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_investigation_tells_the_whole_order_and_checks_its_record(world: World) -> None:
    order_id = await delivered(world)
    await caught_up(world)
    size = await signed(world)
    told = await _investigated(world, order_id)
    order, _ = await load(world.pool, order_id)
    assert [step["action"] for step in told["timeline"]] == [
        "order.placed", "payment.initiated", "payment.confirmed", "restaurant.notified", "restaurant.accepted",
        "driver.assigned", "driver.picked_up", "driver.delivered", "order.completed",
    ]  # fmt: skip
    assert [step["position"] for step in told["timeline"]] == list(range(1, order.position + 1))
    assert told["order"]["address"] == {**world.order()["delivery_address"], "erased": False}
    assert (told["likely_cause"]["name"], told["findings"], told["money"]["adds_up"]) == ("none", [], True)
    check = told["integrity"]
    assert check["held"], check["words"]
    assert (check["order"]["checked"], check["order"]["head_matches"], check["copies_agree"]) == (order.position, True, True)
    assert check["order"]["last_leaf"] - check["order"]["first_leaf"] >= order.position - 1
    assert (check["checkpoint_size"], check["log_size"]) == (size, size)


async def test_the_money_of_an_order_is_told_with_what_is_on_its_way_back(world: World) -> None:
    order_id = await cancelled(world)
    order, _ = await load(world.pool, order_id)
    money = (await _investigated(world, order_id))["money"]
    assert (money["captured"], money["refunded"], money["on_its_way_out"], money["left"]) == (order.total, 0, order.total, 0)


async def test_what_is_not_in_the_log_yet_is_told_from_the_orders_own_copy_and_said(world: World) -> None:
    order_id = await world.paid()
    told = await _investigated(world, order_id)
    assert [step["leaf_index"] for step in told["timeline"]] == [None, None, None]
    assert told["integrity"]["held"]
    assert told["integrity"]["order"]["not_in_the_log_yet"] == 3
    assert any("on their way" in each for each in told["integrity"]["not_checked"])


async def test_a_field_that_the_owner_changed_is_named_by_its_position(world: World) -> None:
    order_id = await world.paid()
    await caught_up(world)
    async with connect(world.settings.audit_migrate_url, service="test") as owner:
        changed = await owner.execute(
            """UPDATE audit.events SET body = replace(convert_from(body, 'UTF8'), 'payment.initiated', 'payment.imagined')::bytea
               WHERE chain = $1 AND position = 2""",
            order_id,
        )
    assert changed == "UPDATE 1"
    told = await _investigated(world, order_id)
    check = told["integrity"]
    assert (check["held"], check["order"]["broken_at"], check["copies_agree"]) == (False, 2, False)
    assert "position 2" in check["words"]
    assert told["likely_cause"]["name"] == "record_broken"


async def test_a_tail_that_was_deleted_everywhere_is_missed_by_the_head(world: World) -> None:
    order_id = await world.paid()
    await caught_up(world)
    async with connect(world.settings.migrate_url, service="test") as owner:
        for table, column in (("audit.events", "chain"), ("order_events", "order_id")):
            await owner.execute(f"DELETE FROM {table} WHERE {column} = $1 AND position = 3", order_id)  # noqa: S608
    check = (await ask(world, f"/orders/{order_id}/integrity")).json()["integrity"]
    assert (check["held"], check["order"]["broken_at"]) == (False, 3)


async def test_an_order_that_moves_while_it_is_looked_at_is_never_called_broken(world: World) -> None:
    order_id = await world.paid()
    await caught_up(world)
    moving = True

    async def move_on() -> None:
        while moving:
            await world.do(order_id, Action.INTERVENE)
            await ask(world, f"/orders/{order_id}/timeline")

    mover = asyncio.create_task(move_on())
    try:
        for _ in range(20):
            check = (await ask(world, f"/orders/{order_id}/integrity")).json()["integrity"]
            assert check["held"], check
    finally:
        moving = False
        await mover


async def test_failures_of_the_order_are_told_with_their_fate(world: World) -> None:
    order_id = await world.paid()
    await park(world.pool, [letter(order_id=order_id)])
    told = await _investigated(world, order_id)
    assert [(each["type"], each["fate"]) for each in told["failures"]] == [("payment.charge", "nobody has dealt with it yet")]
    assert any("no answer within 10 s" in each["said"] for each in told["provider"])
    assert told["likely_cause"]["name"] == "message_failed"


async def test_facts_that_a_stream_holds_back_are_told_wherever_they_are_held(world: World) -> None:
    order_id = await world.paid()
    held = """INSERT INTO {}held_facts (group_name, order_id, position, topic, partition, kafka_offset, headers, body, kind, reason)
              VALUES ($1, $2, 3, 't', 0, $3, '{{}}', '', 'gap', 'position 2 has not come')"""
    async with connect(world.settings.migrate_url, service="test") as owner:
        offset = int(order_id[-6:], 16)
        await owner.execute(held.format(""), "fraud", order_id, offset)
        await owner.execute(held.format("audit."), "audit", order_id, offset)
    told = await _investigated(world, order_id)
    assert sorted((each["group"], each["kind"], each["parked"]) for each in told["held_facts"]) == [
        ("audit", "gap", False), ("fraud", "gap", False)
    ]  # fmt: skip


async def test_every_look_is_on_record_before_it_is_answered(world: World) -> None:
    order_id = await world.paid()
    for part in ("investigation", "timeline", "integrity"):
        assert (await ask(world, f"/orders/{order_id}/{part}")).status_code == 200
    seen = await deeds(world, looks_at(order_id))
    assert [(each["action"], each["details"]["part"], each["actor"]) for each in seen] == [
        ("order.viewed", part, {"type": "support", "id": "sue"}) for part in ("investigation", "timeline", "integrity")
    ]
    assert whole(seen)
    await caught_up(world)
    told = await _investigated(world, order_id)
    assert [each["details"]["part"] for each in told["looks"]] == ["investigation", "timeline", "integrity"]
    assert told["integrity"]["looks"]["head_matches"]


async def test_a_look_that_cannot_be_recorded_is_not_answered(world: World) -> None:
    order_id = await world.paid()
    async with connect(world.settings.migrate_url, service="test") as owner:
        await owner.execute("REVOKE INSERT ON audit_chains FROM rushline_app")
        try:
            answer = await ask(world, f"/orders/{order_id}/investigation")
            search = await ask(world, "/orders", customer_id=world.customer)
        finally:
            await owner.execute("GRANT INSERT ON audit_chains TO rushline_app")
    assert answer.status_code == search.status_code == 500
    assert order_id not in answer.text + search.text


async def test_with_the_ledger_away_the_order_is_told_and_what_was_not_checked(world: World) -> None:
    order_id = await world.paid()
    await caught_up(world)
    nowhere = "postgresql://nobody@127.0.0.1:9/none"
    async with open_pool(nowhere, service="test", size=1, lazy=True) as away:
        app = create_app(Gateway(world.settings, world.pool, waits(world.settings), world.watch, ledger=away))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            headers = world.token("support", "sue")
            told = (await http.get(f"/v1/support/orders/{order_id}/investigation", headers=headers)).json()
            search = await http.get("/v1/support/audit", headers=headers)
    assert len(told["timeline"]) == 3
    assert told["integrity"]["order"]["head_matches"]
    assert "the ledger" in told["integrity"]["not_checked"][0]
    assert (search.status_code, slug(search)) == (503, "unavailable")


async def test_orders_are_found_by_each_filter_and_page_by_page(world: World) -> None:
    first, second = await world.paid(), await delivered(world)
    third = await cancelled(world)
    await caught_up(world)

    async def found(**params: Any) -> list[str]:
        page = await ask(world, "/orders", **params)
        assert page.status_code == 200, page.text
        return [each["order_id"] for each in page.json()["orders"]]

    mine = {"customer_id": world.customer}
    assert await found(**mine) == [third, second, first]
    assert await found(order_id=second) == [second]
    assert await found(restaurant_id=world.restaurant) == [third, second, first]
    assert await found(driver_id=world.driver) == [second]
    assert await found(**mine, state="cancelled") == [third]
    assert await found(city=world.city) == [third, second, first]
    assert await found(**mine, disputed=True) == []
    assert await found(**mine, flagged=False) == [third, second, first]
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert await found(**mine, placed_from=later) == []
    assert await found(**mine, placed_before=later) == [third, second, first]
    seen, cursor = [], None
    for _ in range(2):
        page = (await ask(world, "/orders", **mine, limit=2, **({"cursor": cursor} if cursor else {}))).json()
        seen += [each["order_id"] for each in page["orders"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == ([third, second, first], None)


async def test_a_search_is_on_record_with_its_filter_and_without_what_it_found(world: World) -> None:
    await world.placed()
    await caught_up(world)
    who = new_id("sup")
    await ask(world, "/orders", who=who, customer_id=world.customer, state="placed")
    (seen,) = await deeds(world, f"desk.support:{who}")
    assert (seen["action"], seen["order_id"]) == ("orders.searched", None)
    assert seen["details"] == {"filter": {"customer_id": world.customer, "state": "placed"}}


async def test_the_audit_trail_is_searched_by_actor_action_state_order_and_time(world: World) -> None:
    order_id = await delivered(world)
    who = new_id("sup")
    await ask(world, f"/orders/{order_id}/timeline", who=who)
    await caught_up(world)

    async def found(role: str = "support", **params: Any) -> list[tuple[str, int]]:
        page = await ask(world, "/audit", role=role, **params)
        assert page.status_code == 200, page.text
        return [(each["event"]["action"], each["position"]) for each in page.json()["events"]]

    assert len(await found(order_id=order_id)) == 10
    assert await found(actor=who) == [("order.viewed", 1)]
    assert await found(actor=world.driver, order_id=order_id) == [
        ("order.completed", 9), ("driver.delivered", 8), ("driver.picked_up", 7)
    ]  # fmt: skip
    assert await found(order_id=order_id, action="order.placed", role="auditor") == [("order.placed", 1)]
    assert await found(order_id=order_id, state="picked_up") == [("driver.picked_up", 7)]
    now = datetime.now(UTC)
    assert await found(order_id=order_id, before=(now - timedelta(hours=1)).isoformat()) == []
    assert len(await found(order_id=order_id, **{"from": (now - timedelta(hours=1)).isoformat()})) == 10
    first = (await ask(world, "/audit", order_id=order_id, limit=6)).json()
    rest = (await ask(world, "/audit", order_id=order_id, limit=6, cursor=first["next_cursor"])).json()
    assert len({each["event_id"] for each in first["events"] + rest["events"]}) == 10
    assert world.order()["delivery_address"]["street"] not in msgspec.json.encode(first).decode()


async def test_support_leaves_a_note_that_only_support_can_read(world: World) -> None:
    order_id = await world.paid()
    answer = await do(world, f"/orders/{order_id}/interventions", {"note": "her mother rang: leave it with the neighbour"})
    assert (answer.status_code, answer.json()["status"]) == (201, "payment_confirmed")
    told = await _investigated(world, order_id)
    last = told["timeline"][-1]
    assert (last["action"], last["private"]) == (
        "support.intervention", {"note": "her mother rang: leave it with the neighbour"}
    )  # fmt: skip
    rows = await world.pool.fetch("SELECT fact, audit FROM order_events WHERE order_id = $1", order_id)
    assert all(b"mother" not in row["fact"] + row["audit"] for row in rows)


async def test_support_cancels_an_order_while_that_is_possible(world: World) -> None:
    order_id = await world.paid()
    answer = await do(world, f"/orders/{order_id}/interventions", {"do": "cancel", "note": "wrong address"})
    assert (answer.status_code, answer.json()["status"]) == (201, "cancelled")
    again = await do(world, f"/orders/{order_id}/interventions", {"do": "cancel", "note": "wrong address"})
    assert (again.status_code, slug(again)) == (409, "action-not-allowed")
    assert (await _investigated(world, order_id))["likely_cause"]["name"] == "support_cancelled"


@pytest.mark.parametrize("part", ["investigation", "timeline", "integrity"])
async def test_an_order_that_there_is_not_is_refused_and_not_recorded(world: World, part: str) -> None:
    order_id = new_id("ord")
    for given in (order_id, "ord_1", "x"):
        answer = await ask(world, f"/orders/{given}/{part}")
        assert (answer.status_code, slug(answer)) == (404, "not-found")
    assert await deeds(world, looks_at(order_id)) == []


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("/orders", {"state": "lost"}, "state"), ("/orders", {"customer_id": "a\x00b"}, "customer_id"),
        ("/orders", {"placed_from": "2026-01-01T00:00:00"}, "placed_from"), ("/orders", {"cursor": "x"}, "cursor"),
        ("/orders", {"disputed": "perhaps"}, "disputed"), ("/audit", {"actor": "x" * 201}, "actor"),
        ("/audit", {"from": "yesterday"}, "from"), ("/audit", {"cursor": "WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsIngiXQ=="}, "cursor"),
        ("/audit", {"before": "9999-12-31T23:59:59-12:00"}, "before"), ("/disputes", {"kind": "cold"}, "kind"),
    ],
)  # fmt: skip
async def test_a_filter_that_cannot_be_used_is_refused_by_name(world: World, path: str, params: Any, field: str) -> None:
    answer = await ask(world, path, **params)
    assert (answer.status_code, slug(answer)) == (422, "invalid"), answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_a_refund_that_does_not_come_is_the_likely_cause(world: World) -> None:
    order_id = await cancelled(world)
    world.at.append(datetime.now(UTC) + timedelta(minutes=45))
    told = await _investigated(world, order_id)
    assert told["likely_cause"]["name"] == "refund_stuck"
    assert any(each["name"] == "refund_missing" for each in told["findings"])


async def test_no_delivery_event_25_minutes_after_pick_up_is_pointed_out(world: World) -> None:
    order_id = await world.assigned()
    await world.do(order_id, Action.INTERVENE)
    answer = await world.http.post(f"/v1/driver/orders/{order_id}/pick-up", headers=world.as_driver)
    assert answer.status_code == 200
    world.at.append(datetime.now(UTC) + timedelta(minutes=26))
    told = await _investigated(world, order_id)
    assert "no delivery event 26 minutes after pick-up" in [each["words"] for each in told["findings"]]
    assert told["likely_cause"]["name"] == "slow_delivery"
