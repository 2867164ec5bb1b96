"""Disputes from the customer's first word to the money: opened, assigned, argued, resolved; and every refusal, with nothing changed."""

import asyncio
import hashlib
from typing import Any

import httpx
import msgspec
import pytest

from orders.ids import new_id
from outbox.transition import load
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.support_world import ask, cancelled, caught_up, deeds, delivered, do, money_back, slug

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")
TABLES = ("orders", "order_events", "disputes", "dispute_evidence", "personal_keys", "outbox")


async def opened(world: World, order_id: str, kind: str = "items", claim: str = "the soup was cold") -> Any:
    answer = await do(world, f"/orders/{order_id}/disputes", {"kind": kind, "claim": claim})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def everything(world: World) -> list[Any]:
    return [await world.pool.fetch(f"SELECT to_jsonb(t) AS row FROM {table} t ORDER BY 1") for table in TABLES]  # noqa: S608


async def resolve(world: World, dispute_id: str, who: str = "sue", **body: Any) -> httpx.Response:
    return await do(world, f"/disputes/{dispute_id}/resolution", {"note": "looked into it", **body}, who)


async def refunds(world: World, order_id: str) -> list[dict[str, Any]]:
    rows = await world.pool.fetch(
        "SELECT body FROM outbox WHERE aggregate_id = $1 AND type = 'payment.refund' ORDER BY id", order_id
    )
    return [msgspec.json.decode(row["body"]) for row in rows]


async def refused(world: World, answer: httpx.Response, status: int, name: str, before: list[Any]) -> None:
    assert (answer.status_code, slug(answer)) == (status, name), answer.text
    assert await everything(world) == before


async def test_a_dispute_is_opened_with_its_step_of_the_order_and_what_the_customer_said(world: World) -> None:
    order_id = await delivered(world)
    dispute = await opened(world, order_id, "late", "two hours late, says Mrs Miller")
    assert (dispute["state"], dispute["kind"], dispute["claim"]) == ("open", "late", "two hours late, says Mrs Miller")
    order, _ = await load(world.pool, order_id)
    last = await world.pool.fetchrow("SELECT type, fact, audit FROM order_events WHERE order_id = $1 AND position = $2",
                                     order_id, order.position)  # fmt: skip
    assert last is not None
    assert last["type"] == "dispute.opened"
    assert msgspec.json.decode(last["audit"])["details"] == {"dispute_id": dispute["dispute_id"], "kind": "late"}
    row = await world.pool.fetchval("SELECT to_jsonb(d)::text FROM disputes d WHERE dispute_id = $1", dispute["dispute_id"])
    for stored in (last["fact"].decode(), last["audit"].decode(), row):
        assert "Miller" not in stored


async def test_a_dispute_is_assigned_argued_and_shown_with_what_was_said(world: World) -> None:
    dispute_id = (await opened(world, await delivered(world)))["dispute_id"]
    answer = await do(world, f"/disputes/{dispute_id}/assignment", {"to": "tom", "version": 1})
    assert (answer.status_code, answer.json()["assigned_to"], answer.json()["version"]) == (200, "tom", 2)
    digest = hashlib.sha256(b"photo").hexdigest()
    for body in ({"text": "the driver says he rang twice"}, {"reference": "s3://photos/1.jpg", "sha256": digest}):
        answer = await do(world, f"/disputes/{dispute_id}/evidence", body)
        assert answer.status_code == 201, answer.text
    page = await ask(world, "/disputes", assigned_to="tom", customer_id=world.customer)
    (shown,) = page.json()["disputes"]
    assert [each["said"] for each in shown["evidence"]] == [
        {"text": "the driver says he rang twice"}, {"reference": "s3://photos/1.jpg"}
    ]  # fmt: skip
    assert shown["evidence"][1]["sha256"] == digest
    trail = await world.pool.fetch("SELECT audit FROM order_events WHERE order_id = $1 ORDER BY position", shown["order_id"])
    last = [msgspec.json.decode(row["audit"])["details"] for row in trail][-3:]
    assert [each["act"] for each in last] == ["dispute_assigned", "dispute_evidence", "dispute_evidence"]
    assert last[2]["sha256"] == digest
    assert b"rang twice" not in b"".join(row["audit"] for row in trail)


@pytest.mark.parametrize(
    ("kind", "amount", "due", "reason"),
    [
        ("items", 250, 250, "dispute_items"), ("items", None, 2550, "dispute_items"), ("late", None, 300, "dispute_late"),
        ("late", 500, 500, "dispute_late"), ("never_arrived", None, 2550, "dispute_never_arrived"),
        ("never_arrived", 1000, 1000, "dispute_never_arrived"), ("other", 1, 1, "dispute_other"),
    ],
)  # fmt: skip
async def test_a_refund_goes_the_way_of_all_refunds(world: World, kind: str, amount: int | None, due: int, reason: str) -> None:
    order_id = await delivered(world)
    dispute_id = (await opened(world, order_id, kind))["dispute_id"]
    answer = await resolve(world, dispute_id, resolution="refund", **({"amount": amount} if amount else {}))
    told = answer.json()
    assert (answer.status_code, told["state"], told["amount"], told["reason"]) == (200, "refunded", due, reason), answer.text
    (command,) = await refunds(world, order_id)
    assert (command["reason"], command["amount"]) == (reason, due)
    order, _ = await load(world.pool, order_id)
    assert [entry.type for entry in order.pending.values()] == ["payment.refund"]  # watched until it is done


async def test_a_refusal_names_its_reason_and_gives_nothing_back(world: World) -> None:
    order_id = await delivered(world)
    dispute_id = (await opened(world, order_id))["dispute_id"]
    answer = await resolve(world, dispute_id, resolution="refuse", reason="no_evidence")
    assert (answer.status_code, answer.json()["state"], answer.json()["reason"]) == (200, "refused", "no_evidence")
    assert answer.json()["answer"] == "looked into it"
    assert await refunds(world, order_id) == []


async def test_no_more_goes_back_than_is_left_counting_what_is_on_its_way(world: World) -> None:
    order_id = await delivered(world)
    first = (await opened(world, order_id))["dispute_id"]
    assert (await resolve(world, first, resolution="refund", amount=2000)).status_code == 200
    second = (await opened(world, order_id))["dispute_id"]
    before = await everything(world)
    await refused(world, await resolve(world, second, resolution="refund", amount=551), 409, "refund-above-rest", before)
    await money_back(world, order_id, 2000, "dispute_items")
    before = await everything(world)
    await refused(world, await resolve(world, second, resolution="refund", amount=551), 409, "refund-above-rest", before)
    answer = await resolve(world, second, resolution="refund", amount=550)
    assert answer.json()["state"] == "refunded"
    third = (await opened(world, order_id, "never_arrived"))["dispute_id"]
    before = await everything(world)
    await refused(world, await resolve(world, third, resolution="refund"), 409, "refund-above-rest", before)


async def test_a_cancelled_order_whose_money_is_on_its_way_back_has_nothing_left_for_a_dispute(world: World) -> None:
    dispute_id = (await opened(world, await cancelled(world)))["dispute_id"]
    before = await everything(world)
    await refused(world, await resolve(world, dispute_id, resolution="refund"), 409, "refund-above-rest", before)


async def test_two_people_cannot_both_resolve_it(world: World) -> None:
    order_id = await delivered(world)
    dispute_id = (await opened(world, order_id))["dispute_id"]
    answers = await asyncio.gather(*(
        resolve(world, dispute_id, who, resolution="refund", amount=100) for who in ("sue", "tom", "kim")
    ))  # fmt: skip
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    assert {slug(answer) for answer in answers if answer.status_code == 409} == {"dispute-resolved"}
    assert len(await refunds(world, order_id)) == 1


async def test_whoever_saw_an_older_version_is_refused(world: World) -> None:
    dispute_id = (await opened(world, await delivered(world)))["dispute_id"]
    await do(world, f"/disputes/{dispute_id}/assignment", {"to": "tom"})
    before = await everything(world)
    answer = await resolve(world, dispute_id, resolution="refund", version=1)
    await refused(world, answer, 409, "dispute-moved", before)


async def test_a_second_dispute_waits_for_the_first(world: World) -> None:
    order_id = await delivered(world)
    await opened(world, order_id)
    before = await everything(world)
    again = await do(world, f"/orders/{order_id}/disputes", {"kind": "late", "claim": "x"})
    await refused(world, again, 409, "dispute-open", before)


async def test_an_order_under_way_cannot_be_disputed(world: World) -> None:
    order_id = await world.paid()
    await do(world, f"/orders/{order_id}/interventions", {"note": "so that there is a key"})
    before = await everything(world)
    answer = await do(world, f"/orders/{order_id}/disputes", {"kind": "late", "claim": "x"})
    await refused(world, answer, 409, "action-not-allowed", before)


@pytest.mark.parametrize("verb", ["assignment", "evidence", "resolution"])
async def test_nothing_more_is_said_in_a_dispute_that_is_resolved(world: World, verb: str) -> None:
    dispute_id = (await opened(world, await delivered(world)))["dispute_id"]
    await resolve(world, dispute_id, resolution="refuse", reason="too_late")
    before = await everything(world)
    body = {
        "assignment": {"to": "tom"}, "evidence": {"text": "one more thing"}, "resolution": {"resolution": "refund", "note": "x"},
    }[verb]  # fmt: skip
    await refused(world, await do(world, f"/disputes/{dispute_id}/{verb}", body), 409, "dispute-resolved", before)
    nowhere = await do(world, f"/disputes/{new_id('dsp')}/{verb}", body)
    await refused(world, nowhere, 404, "dispute-not-found", before)


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("resolution", {"resolution": "refuse", "note": "x"}, "reason"),
        ("resolution", {"resolution": "refuse", "reason": "too_late", "amount": 5, "note": "x"}, "amount"),
        ("resolution", {"resolution": "refund", "reason": "too_late", "note": "x"}, "reason"),
        ("resolution", {"resolution": "refund", "amount": 0, "note": "x"}, "amount"),
        ("resolution", {"resolution": "refund", "amount": -5, "note": "x"}, "amount"),
        ("resolution", {"resolution": "refund", "note": "a\x00b"}, "note"),
        ("evidence", {}, "text"), ("evidence", {"reference": "s3://x"}, "sha256"),
        ("evidence", {"reference": "s3://x", "sha256": "F" * 64}, "sha256"), ("evidence", {"text": "x" * 1001}, "text"),
        ("assignment", {"to": ""}, "to"), ("assignment", {"to": "tom", "because": "x"}, "because"),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_refused_by_name(world: World, verb: str, body: Any, field: str) -> None:
    dispute_id = (await opened(world, await delivered(world)))["dispute_id"]
    before = await everything(world)
    answer = await do(world, f"/disputes/{dispute_id}/{verb}", body)
    await refused(world, answer, 422, "invalid", before)
    assert answer.json()["errors"][0]["field"] == field


async def test_disputes_are_listed_newest_first_and_the_look_is_on_record(world: World) -> None:
    orders = [await delivered(world) for _ in range(3)]
    made = [(await opened(world, order_id))["dispute_id"] for order_id in orders]
    who = new_id("sup")
    seen, cursor = [], None
    for _ in range(2):
        page = await ask(
            world, "/disputes", who=who, customer_id=world.customer, limit=2, **({"cursor": cursor} if cursor else {})
        )
        seen += [each["dispute_id"] for each in page.json()["disputes"]]
        cursor = page.json()["next_cursor"]
    assert (seen, cursor) == (made[::-1], None)
    assert [each["action"] for each in await deeds(world, f"desk.support:{who}")] == ["disputes.searched"] * 2
    assert (await ask(world, "/disputes", customer_id=world.customer, state="refused")).json()["disputes"] == []
    await caught_up(world)
    found = (await ask(world, "/orders", customer_id=world.customer, disputed=True)).json()["orders"]
    assert [each["order_id"] for each in found] == orders[::-1]


async def test_an_order_is_refunded_in_part_and_then_its_dispute_is_in_the_investigation(world: World) -> None:
    order_id = await delivered(world)
    dispute_id = (await opened(world, order_id, "late"))["dispute_id"]
    await resolve(world, dispute_id, resolution="refund")
    await money_back(world, order_id, 300, "dispute_late")
    told = (await ask(world, f"/orders/{order_id}/investigation")).json()
    assert [(each["dispute_id"], each["state"], each["amount"]) for each in told["disputes"]] == [(dispute_id, "refunded", 300)]
    assert [(each["direction"], each["amount_minor"]) for each in told["money"]["moves"]] == [("in", 2550), ("out", 300)]
    assert told["money"]["adds_up"]
