"""What operators do to many letters over HTTP, and to their bytes: replays, discards, edits with a second person, rules."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from orders.ids import new_id
from orders.names import Command
from outbox.letters import replays
from outbox.letters.model import LetterState
from outbox.letters.sending import settle
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.letters_desk import everything, letter, park, state_of

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")
OPS = "/v1/ops"


def _slug(answer: httpx.Response) -> str:
    return str(answer.json()["type"].rpartition("/")[2])


async def call(world: World, method: str, path: str, body: Any = None, who: str = "ann", **params: Any) -> httpx.Response:
    return await world.http.request(method, OPS + path, json=body, params=params, headers=world.token("operator", who))


def _strange() -> str:
    """An error that only this test's letters have, and so a group of their own."""
    return f"Strange{secrets.token_hex(4)}"


async def _group(world: World, number: int) -> tuple[str, list[str]]:
    error, start = _strange(), datetime.now(UTC) - timedelta(minutes=5)
    made = [letter(error=error, failed_at=start + timedelta(seconds=n)) for n in range(number)]
    return made[0].fingerprint, await park(world.pool, made)


async def _step(world: World) -> None:
    await replays.step(world.pool, datetime.now(UTC))


async def test_many_are_sent_again_canary_first_and_the_rest_when_it_is_done(world: World) -> None:
    fingerprint, ids = await _group(world, 9)
    wanted = {"filter": {"fingerprint": fingerprint}, "reason": "the provider is back", "stages": [1, 5]}
    begun = await call(world, "POST", "/replays", wanted)
    assert (begun.status_code, begun.json()["state"], begun.json()["total"]) == (201, "running", 9)
    assert [stage["size"] for stage in begun.json()["stages"]] == [1, 5, 3]
    replay_id = begun.json()["replay_id"]
    for sent in (1, 6, 9):
        await _step(world)
        states = [await state_of(world.pool, letter_id) for letter_id in ids]
        assert states.count(LetterState.REPLAYING) == sent - (0 if sent == 1 else {6: 1, 9: 6}[sent])
        for letter_id, state in zip(ids, states, strict=True):
            if state is LetterState.REPLAYING:
                await settle(world.pool, letter_id, outcome="done", now=datetime.now(UTC))
    await _step(world)
    shown = (await call(world, "GET", f"/replays/{replay_id}")).json()
    assert (shown["state"], shown["done"], shown["waiting"]) == ("done", 9, 0)
    items = (await call(world, "GET", f"/replays/{replay_id}/items", limit=5)).json()
    assert [item["letter_id"] for item in items["items"]] == ids[:5]
    rest = (await call(world, "GET", f"/replays/{replay_id}/items", limit=5, cursor=items["next_cursor"])).json()
    assert ([item["letter_id"] for item in rest["items"]], rest["next_cursor"]) == (ids[5:], None)


async def test_what_failed_after_the_cut_off_is_not_swept_in(world: World) -> None:
    error, now = _strange(), datetime.now(UTC)
    old, new = letter(error=error, failed_at=now - timedelta(hours=2)), letter(error=error, failed_at=now)
    await park(world.pool, [old, new])
    cutoff = (now - timedelta(hours=1)).isoformat()
    tried = await call(world, "POST", "/replays", {"filter": {"fingerprint": old.fingerprint}, "cutoff": cutoff, "reason": "x"})
    items = (await call(world, "GET", f"/replays/{tried.json()['replay_id']}/items")).json()["items"]
    assert [item["letter_id"] for item in items] == [old.letter_id]


async def test_a_replay_is_paused_resumed_and_cancelled_once(world: World) -> None:
    fingerprint, ids = await _group(world, 3)
    begun = await call(world, "POST", "/replays", {"filter": {"fingerprint": fingerprint}, "reason": "x"})
    at = f"/replays/{begun.json()['replay_id']}"
    for verb, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        before = await everything(world.pool)
        assert (await call(world, "POST", f"{at}/{verb}", dry_run="true")).json()["state"] == state
        assert await everything(world.pool) == before
        assert (await call(world, "POST", f"{at}/{verb}")).json()["state"] == state
        again = await call(world, "POST", f"{at}/{verb}")
        assert (again.status_code, _slug(again)) == (409, "replay-state"), verb
    assert {await state_of(world.pool, letter_id) for letter_id in ids} == {LetterState.OPEN}
    listed = (await call(world, "GET", "/replays", state="cancelled", limit=1)).json()
    assert f"/replays/{listed['replays'][0]['replay_id']}" == at


async def test_replays_are_listed_newest_first_page_by_page(world: World) -> None:
    begun = []
    for _ in range(3):
        fingerprint, _ids = await _group(world, 1)
        answer = await call(world, "POST", "/replays", {"filter": {"fingerprint": fingerprint}, "reason": "x"})
        begun.append(answer.json()["replay_id"])
    first = (await call(world, "GET", "/replays", limit=2)).json()
    second = (await call(world, "GET", "/replays", limit=2, cursor=first["next_cursor"])).json()
    assert [each["replay_id"] for each in (*first["replays"], *second["replays"])][:3] == begun[::-1]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": "x"}, "filter"),
        ({"filter": {}}, "reason"),
        ({"filter": {"colour": "red"}, "reason": "x"}, "filter.colour"),
        ({"filter": {"state": "discarded"}, "reason": "x"}, "filter.state"),
        ({"filter": {"words": "a\x00"}, "reason": "x"}, "filter.words"),
        ({"filter": {"failed_from": "0001-01-01T00:00:00+14:00"}, "reason": "x"}, "filter.failed_from"),
        ({"filter": {}, "reason": "x", "stages": [0]}, "stages[0]"),
        ({"filter": {}, "reason": "x", "stages": "1,5"}, "stages"),
        ({"filter": {}, "reason": "x", "per_second": 0}, "per_second"),
        ({"filter": {}, "reason": "x", "cutoff": "2026-01-01T00:00:00"}, "cutoff"),
        ({"filter": {}, "reason": "x", "cutoff": "0001-01-01T00:00:00+14:00"}, "cutoff"),
    ],
)
async def test_a_replay_that_cannot_be_names_the_field(world: World, body: dict[str, Any], field: str) -> None:
    answer = await call(world, "POST", "/replays", body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text


async def test_a_filter_that_matches_nothing_is_refused(world: World) -> None:
    before = await everything(world.pool)
    for path in ("/replays", "/discards"):
        answer = await call(world, "POST", path, {"filter": {"order_id": new_id("ord")}, "reason": "x"})
        assert (answer.status_code, _slug(answer)) == (409, "nothing-matches"), path
    assert await everything(world.pool) == before


async def test_many_are_discarded_with_a_reason_and_never_all_by_leaving_the_filter_out(world: World) -> None:
    fingerprint, ids = await _group(world, 3)
    await park(world.pool, [letter()])
    for everyone in ({}, {"state": "open"}):
        answer = await call(world, "POST", "/discards", {"filter": everyone, "reason": "x"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "filter")
    wanted = {"filter": {"fingerprint": fingerprint}, "reason": "orders of a test"}
    before = await everything(world.pool)
    tried = await call(world, "POST", "/discards", wanted, dry_run="true")
    assert (tried.json()["discarded"], tried.json()["dry_run"]) == (3, True)
    assert await everything(world.pool) == before
    assert (await call(world, "POST", "/discards", wanted)).json()["discarded"] == 3
    assert {await state_of(world.pool, letter_id) for letter_id in ids} == {LetterState.DISCARDED}
    assert await world.count("SELECT count(*) FROM dead_letters WHERE state = 'open'") > 0


def _notify(restaurant: str, **changes: Any) -> Any:
    order_id = new_id("ord")
    body = msgspec.json.encode({"order_id": order_id, "position": 4, "restaurant_id": restaurant})
    return letter(Command.RESTAURANT_NOTIFY, order_id=order_id, body=body, **changes)


async def test_a_message_is_edited_shown_as_a_difference_and_sent_while_the_original_is_kept(world: World) -> None:
    wrong = _notify("rst_wrong")
    await park(world.pool, [wrong])
    patch = {"reason": "the restaurant moved", "patch": {"restaurant_id": world.restaurant}, "version": 1}
    before = await everything(world.pool)
    tried = (await call(world, "POST", f"/dead-letters/{wrong.letter_id}/edit", patch, dry_run="true")).json()
    assert await everything(world.pool) == before
    edited = await call(world, "POST", f"/dead-letters/{wrong.letter_id}/edit", patch)
    assert edited.status_code == 200, edited.text
    assert (edited.json()["state"], edited.json()["diff"]) == ("sent", tried["diff"])
    assert "rst_wrong" in edited.json()["diff"]
    assert world.restaurant in edited.json()["diff"]
    sent = await world.pool.fetchval("SELECT body FROM outbox WHERE event_id = $1", wrong.message_id)
    assert msgspec.json.decode(sent)["restaurant_id"] == world.restaurant
    shown = (await call(world, "GET", f"/dead-letters/{wrong.letter_id}")).json()
    assert shown["body"]["data"].encode() == wrong.body
    assert [edit["reason"] for edit in shown["edits"]] == ["the restaurant moved"]


@pytest.mark.parametrize(
    ("change", "status", "slug", "field"),
    [
        ({"text": "not json"}, 422, "bad-edit", "body"),
        ({"text": "\x00"}, 422, "bad-edit", "body"),
        ({"text": "[" * 60_000}, 422, "bad-edit", "body"),
        ({"patch": {"restaurant_id": 5}}, 422, "bad-edit", "body"),
        ({"patch": {"restaurant_id": None}}, 422, "bad-edit", "body"),
        ({"patch": {"colour": "red"}}, 422, "bad-edit", "body.colour"),
        ({"patch": {"order_id": "ord_other"}}, 422, "invalid", "patch.order_id"),
        ({"patch": {}}, 422, "invalid", "patch"),
        ({"patch": {"restaurant_id": "rst_wrong"}}, 422, "bad-edit", "body"),
        ({}, 422, "invalid", "text"),
        ({"text": "{}", "patch": {"a": 1}}, 422, "invalid", "text"),
    ],
)
async def test_an_edit_that_cannot_be_is_refused_and_says_why(
    world: World, change: dict[str, Any], status: int, slug: str, field: str
) -> None:
    wrong = _notify("rst_wrong")
    await park(world.pool, [wrong])
    before = await everything(world.pool)
    answer = await call(world, "POST", f"/dead-letters/{wrong.letter_id}/edit", {"reason": "x", **change})
    assert (answer.status_code, _slug(answer), answer.json()["errors"][0]["field"]) == (status, slug, field), answer.text
    assert await everything(world.pool) == before


def _refund() -> Any:
    order_id = new_id("ord")
    body = msgspec.json.encode({"order_id": order_id, "position": 4, "reason": "cancelled", "amount": 100})
    return letter(Command.PAYMENT_REFUND, order_id=order_id, body=body)


async def test_what_moves_money_is_edited_by_one_person_and_approved_by_another(world: World) -> None:
    refund = _refund()
    await park(world.pool, [refund])
    change = {"reason": "half was eaten", "patch": {"amount": 50}}
    proposed = (await call(world, "POST", f"/dead-letters/{refund.letter_id}/edit", change)).json()
    assert proposed["state"] == "waiting"
    assert await world.count("SELECT count(*) FROM outbox WHERE event_id = $1", refund.message_id) == 0
    waiting = (await call(world, "GET", "/edits", state="waiting")).json()["edits"]
    assert proposed["edit_id"] in {edit["edit_id"] for edit in waiting}
    at = f"/edits/{proposed['edit_id']}"
    before = await everything(world.pool)
    own = await call(world, "POST", f"{at}/approve")
    assert (own.status_code, _slug(own)) == (403, "needs-approval")
    assert (await call(world, "POST", f"{at}/approve", who="bob", dry_run="true")).json()["state"] == "sent"
    assert await everything(world.pool) == before
    approved = (await call(world, "POST", f"{at}/approve", who="bob")).json()
    assert (approved["state"], approved["proposed_by"], approved["decided_by"]) == ("sent", "ann", "bob")
    sent = await world.pool.fetchval("SELECT body FROM outbox WHERE event_id = $1", refund.message_id)
    assert msgspec.json.decode(sent)["amount"] == 50
    for verb, body in (("approve", None), ("refuse", {"reason": "late"})):
        again = await call(world, "POST", f"{at}/{verb}", body, who="bob")
        assert (again.status_code, _slug(again)) == (409, "edit-decided"), verb


async def test_an_edit_that_is_refused_leaves_its_letter_open(world: World) -> None:
    refund = _refund()
    await park(world.pool, [refund])
    change = {"reason": "x", "patch": {"amount": 5}}
    edit_id = (await call(world, "POST", f"/dead-letters/{refund.letter_id}/edit", change)).json()["edit_id"]
    before = await everything(world.pool)
    assert (
        await call(world, "POST", f"/edits/{edit_id}/refuse", {"reason": "no"}, who="bob", dry_run="true")
    ).status_code == 200
    assert await everything(world.pool) == before
    refused = await call(world, "POST", f"/edits/{edit_id}/refuse", {"reason": "too little"}, who="bob")
    assert (refused.json()["state"], refused.json()["decided_by"]) == ("refused", "bob")
    assert await state_of(world.pool, refund.letter_id) is LetterState.OPEN
    shown = (await call(world, "GET", f"/edits/{edit_id}")).json()
    assert shown["state"] == "refused"


def _rule(**changes: Any) -> dict[str, Any]:
    return {
        "name": f"test {secrets.token_hex(4)}", "match": {"failure_types": ["payment_timeout"], "max_generation": 1},
        "action": {"do": "replay"}, "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(), "enabled": False, **changes,
    }  # fmt: skip


async def test_a_rule_is_tried_on_past_letters_written_and_switched(world: World) -> None:
    _, ids = await _group(world, 2)
    rule = _rule()
    before = await everything(world.pool)
    told = await call(world, "POST", "/rules/dry-run", {"rule": rule, "days": 1})
    assert told.status_code == 200, told.text
    assert told.json()["matching"] >= len(ids)
    assert told.json()["examples"][0]["effect"]
    assert (await call(world, "PUT", "/rules", rule, dry_run="true")).status_code == 200
    assert await everything(world.pool) == before
    written = (await call(world, "PUT", "/rules", rule)).json()
    assert (written["enabled"], written["lives"], written["updated_by"], written["version"]) == (False, False, "ann", 1)
    at = f"/rules/{written['rule_id']}"
    assert (await call(world, "POST", f"{at}/enable", {"version": 1}, dry_run="true")).json()["lives"]
    assert not (await call(world, "GET", at)).json()["enabled"]
    assert (await call(world, "POST", f"{at}/enable", {"version": 1})).json()["lives"]
    stale = await call(world, "PUT", "/rules", {**rule, "version": 1})
    assert (stale.status_code, _slug(stale)) == (409, "rule-moved")
    off = (await call(world, "POST", f"{at}/disable")).json()
    assert (off["lives"], off["enabled"]) == (False, False)
    twice = await call(world, "PUT", "/rules", rule)
    assert (twice.status_code, _slug(twice)) == (409, "rule-exists")
    assert rule["name"] in {each["name"] for each in (await call(world, "GET", "/rules")).json()["rules"]}
    assert (await call(world, "GET", f"{at}/uses")).json() == {"uses": [], "next_cursor": None}


def _deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"match": {}}, 422, "rule-matches-everything"),
        ({"match": {"colour": "red"}}, 422, "invalid"),
        ({"action": {"do": "explode"}}, 422, "invalid"),
        ({"action": {}}, 422, "invalid"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 422, "invalid"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, 422, "invalid"),
        ({"per_hour": 0}, 422, "invalid"),
        ({"name": "a\x00"}, 422, "invalid"),
        ({"name": "library/mine"}, 422, "invalid"),
        ({"match": {"body": [{"path": "$..x", "exists": True}]}}, 422, "invalid"),
        ({"match": {"failure_types": ["payment_timeout"], "body": [{"path": "$.a", "equals": "\x00"}]}}, 422, "invalid"),
        ({"match": {"error": "a\x00b"}}, 422, "invalid"),
        ({"description": "a\x00b"}, 422, "invalid"),
        ({"action": {"do": "patch", "patch": {"reason": "\x00"}}}, 422, "invalid"),
        ({"action": {"do": "discard", "reason": "a\x00"}}, 422, "invalid"),
        ({"action": {"do": "patch", "patch": {"a": _deep(400)}}}, 422, "invalid"),
        ({"match": {"failure_types": ["payment_timeout"], "body": [{"path": "$.a", "equals": _deep(400)}]}}, 422, "invalid"),
        ({"version": 7}, 404, "rule-not-found"),
    ],
)
async def test_a_rule_that_cannot_be_is_refused(world: World, changes: dict[str, Any], status: int, slug: str) -> None:
    before = await everything(world.pool)
    for answer in (
        await call(world, "PUT", "/rules", _rule(**changes), dry_run="true"),
        await call(world, "PUT", "/rules", _rule(**changes)),
    ):
        assert (answer.status_code, _slug(answer)) == (status, slug), answer.text
        assert await everything(world.pool) == before
