"""What operators do to one letter over HTTP: see it, send it again, put it away; and each refusal, with nothing changed."""

import asyncio
import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from gateway.problems import BY_SLUG
from orders.errors import Refuse
from orders.failures import FailureType
from orders.ids import new_id
from orders.names import Command
from outbox.letters import abbreviated, actions, effects, keeper, refusals, replays, rules
from outbox.letters.model import LetterState
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.letters_desk import everything, letter, park, poison, state_of

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")
LETTERS = "/v1/ops/dead-letters"


def _slug(answer: httpx.Response) -> str:
    return str(answer.json()["type"].rpartition("/")[2])


async def ask(world: World, path: str, params: dict[str, Any] | None = None, who: str = "ann") -> httpx.Response:
    return await world.http.get(path, params=params, headers=world.token("operator", who))


async def do(world: World, path: str, body: Any = None, who: str = "ann", **params: Any) -> httpx.Response:
    headers = world.token("operator", who)
    return await world.http.post(path, json=body, params=params, headers=headers)


async def test_letters_are_listed_latest_failure_first_and_page_by_page(world: World) -> None:
    order_id = new_id("ord")
    start = datetime.now(UTC)
    made = [letter(order_id=order_id, failed_at=start - timedelta(minutes=n)) for n in range(5)]
    await park(world.pool, made)
    seen, cursor = [], None
    for _ in range(3):
        page = (await ask(world, LETTERS, {"order_id": order_id, "limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        assert page["count"] == {"number": 5, "exact": True}
        seen += [each["letter_id"] for each in page["letters"]]
        cursor = page["next_cursor"]
    assert seen == [each.letter_id for each in made]
    assert cursor is None


async def test_every_filter_narrows(world: World) -> None:
    order_id = new_id("ord")
    one = letter(order_id=order_id, message="the oven at Prenzlauer exploded")
    other = letter(Command.DRIVER_DISPATCH, order_id=order_id, failure=FailureType.DRIVER_UNAVAILABLE, error="NoDriver")
    await park(world.pool, [one, other])
    for params in (
        {"failure_type": "payment_timeout"}, {"category": "transient", "consumer": "payments"}, {"type": "payment.charge"},
        {"fingerprint": one.fingerprint}, {"message_id": one.message_id}, {"words": "oven exploded"}, {"state": "open", "type": "payment.charge"},
    ):  # fmt: skip
        page = (await ask(world, LETTERS, {"order_id": order_id, **params})).json()
        assert [each["letter_id"] for each in page["letters"]] == [one.letter_id], params
    late = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    for params in ({"state": "discarded"}, {"failed_from": late}, {"owner": "nobody"}, {"words": "kettle"}):
        assert (await ask(world, LETTERS, {"order_id": order_id, **params})).json()["letters"] == [], params


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"state": "lost"}, "state"),
        ({"failure_type": "bad luck"}, "failure_type"),
        ({"words": ""}, "words"),
        ({"words": "a\x00b"}, "words"),
        ({"type": "a\x1b[2J"}, "type"),
        ({"order_id": "x" * 201}, "order_id"),
        ({"failed_from": "yesterday"}, "failed_from"),
        ({"failed_from": "2026-01-01T00:00:00"}, "failed_from"),
        ({"failed_before": "0001-01-01T00:00:00+14:00"}, "failed_before"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'["0001-01-01T00:00:00+14:00","let"]').decode()}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'["2026-01-01T00:00:00Z","\\u0000"]').decode()}, "cursor"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_by_its_name(world: World, params: dict[str, str], field: str) -> None:
    answer = await ask(world, LETTERS, params)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text


@pytest.mark.parametrize(
    "words", ["'; DROP TABLE dead_letters; --", "' OR '1'='1", "kiln & ! | :*", "\\", "%", "_", "<script>", "$1", "{}", "ord_%"]
)
async def test_what_looks_like_sql_is_only_words(world: World, words: str) -> None:
    await park(world.pool, [letter()])
    count = await world.count("SELECT count(*) FROM dead_letters")
    for name in ("words", "type", "consumer", "owner", "order_id", "message_id", "fingerprint"):
        answer = await ask(world, LETTERS, {name: words})
        assert (answer.status_code, answer.json()["letters"]) == (200, []), (name, answer.text)
    assert await world.count("SELECT count(*) FROM dead_letters") == count


async def test_a_letter_is_shown_with_all_that_is_known_of_it(world: World) -> None:
    order_id = new_id("ord")
    one, other = letter(order_id=order_id), letter(Command.DRIVER_DISPATCH, order_id=order_id)
    await park(world.pool, [one, other])
    await do(world, f"{LETTERS}/{one.letter_id}/note", {"text": "the provider knows\nand says so"})
    shown = (await ask(world, f"{LETTERS}/{one.letter_id}")).json()
    assert shown["letter"]["failure_type"] == "payment_timeout"
    assert (shown["body"]["encoding"], shown["body"]["data"].encode()) == ("utf-8", one.body)
    assert shown["body"]["sha256"] == hashlib.sha256(one.body).hexdigest()
    assert shown["headers"] == one.headers
    assert [entry["detail"]["text"] for entry in shown["history"] if entry["action"] == "note"] == [
        "the provider knows\nand says so"
    ]
    assert [sibling["letter_id"] for sibling in shown["siblings"]] == [other.letter_id]
    assert shown["group"]["fingerprint"] == one.fingerprint
    assert {"replay", "edit", "discard"} <= set(shown["can"])


async def test_bytes_that_nobody_can_read_are_shown_as_base64_and_saved_as_they_are(world: World) -> None:
    body = b"\x00\xff<script>alert(1)</script>\x1b[2J"
    one = poison(body)
    await park(world.pool, [one])
    shown = (await ask(world, f"{LETTERS}/{one.letter_id}")).json()["body"]
    assert (shown["encoding"], base64.b64decode(shown["data"]), shown["cut"]) == ("base64", body, False)
    saved = await ask(world, f"{LETTERS}/{one.letter_id}/body")
    assert saved.content == body
    assert saved.headers["content-type"] == "application/octet-stream"
    assert saved.headers["content-disposition"].startswith("attachment")
    assert saved.headers["x-content-type-options"] == "nosniff"


async def test_a_body_of_megabytes_is_cut_where_it_is_shown_and_whole_where_it_is_saved(world: World) -> None:
    body = "€".encode() * 1_000_000
    one = poison(body)
    await park(world.pool, [one])
    shown = (await ask(world, f"{LETTERS}/{one.letter_id}")).json()["body"]
    assert (shown["encoding"], shown["cut"], shown["bytes"]) == ("utf-8", True, len(body))
    assert body.decode().startswith(shown["data"])
    assert (await ask(world, f"{LETTERS}/{one.letter_id}/body")).content == body


async def test_a_letter_is_sent_again_once_and_a_second_time_refused(world: World) -> None:
    (letter_id,) = await park(world.pool, [letter()])
    answer = await do(world, f"{LETTERS}/{letter_id}/replay", {"version": 1})
    assert (answer.status_code, answer.json()["state"]) == (200, "replaying")
    again = await do(world, f"{LETTERS}/{letter_id}/replay")
    assert (again.status_code, _slug(again)) == (409, "letter-not-open")
    assert again.json()["remedy"]
    message = await world.pool.fetchrow("SELECT message_id FROM dead_letters WHERE letter_id = $1", letter_id)
    assert await world.count("SELECT count(*) FROM outbox WHERE event_id = $1", message["message_id"]) == 1


async def test_a_letter_that_was_discarded_cannot_be_replayed(world: World) -> None:
    (letter_id,) = await park(world.pool, [letter()])
    gone = await do(world, f"{LETTERS}/{letter_id}/discard", {"reason": "a test order"})
    assert (gone.json()["state"], gone.json()["resolution"], gone.json()["resolved_by"]) == ("discarded", "a test order", "ann")
    before = await everything(world.pool)
    for verb, body in (
        ("replay", None),
        ("discard", {"reason": "again"}),
        ("snooze", {"until": None}),
        ("assign", {"owner": "bob"}),
    ):
        answer = await do(world, f"{LETTERS}/{letter_id}/{verb}", body)
        assert (answer.status_code, _slug(answer)) == (409, "letter-not-open"), verb
    assert await everything(world.pool) == before


async def test_bytes_that_nobody_can_read_are_not_sent_as_they_are(world: World) -> None:
    (letter_id,) = await park(world.pool, [poison()])
    before = await everything(world.pool)
    answer = await do(world, f"{LETTERS}/{letter_id}/replay")
    assert (answer.status_code, _slug(answer)) == (409, "not-replayable")
    assert await everything(world.pool) == before


async def test_of_two_operators_on_one_letter_one_is_refused_and_told_why(world: World) -> None:
    for _ in range(5):
        (letter_id,) = await park(world.pool, [letter()])
        answers = await asyncio.gather(
            do(world, f"{LETTERS}/{letter_id}/replay", {"version": 1}, "ann"),
            do(world, f"{LETTERS}/{letter_id}/discard", {"reason": "hopeless", "version": 1}, "bob"),
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409], [answer.text for answer in answers]
        refused = next(answer for answer in answers if answer.status_code == 409)
        assert _slug(refused) in {"letter-moved", "letter-not-open"}


async def test_an_old_version_is_refused(world: World) -> None:
    (letter_id,) = await park(world.pool, [letter()])
    taken = (await do(world, f"{LETTERS}/{letter_id}/assign", {"owner": "ann", "version": 1})).json()
    assert (taken["owner"], taken["version"]) == ("ann", 2)
    before = await everything(world.pool)
    for verb, body in (("replay", {}), ("discard", {"reason": "x"}), ("assign", {"owner": "bob"}), ("snooze", {"until": None})):
        answer = await do(world, f"{LETTERS}/{letter_id}/{verb}", {**body, "version": 1}, "bob")
        assert (answer.status_code, _slug(answer)) == (409, "letter-moved"), verb
    assert await everything(world.pool) == before


async def test_whatever_is_tried_first_changes_nothing_and_answers_the_same(world: World) -> None:
    (letter_id,) = await park(world.pool, [letter()])
    group = (await ask(world, f"{LETTERS}/{letter_id}")).json()["group"]["fingerprint"]
    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    before = await everything(world.pool)
    for path, body in (
        (f"{letter_id}/replay", {}), (f"{letter_id}/discard", {"reason": "x"}), (f"{letter_id}/note", {"text": "x"}),
        (f"{letter_id}/assign", {"owner": "bob"}), (f"{letter_id}/snooze", {"until": until}),
        (f"groups/{group}/assign", {"owner": "bob"}), (f"groups/{group}/snooze", {"until": until}),
    ):  # fmt: skip
        answer = await do(world, f"{LETTERS}/{path}", body, dry_run="true")
        assert answer.status_code == 200, (path, answer.text)
        assert await everything(world.pool) == before, path
    assert (await do(world, f"{LETTERS}/{letter_id}/replay", dry_run="true")).json()["state"] == "replaying"
    assert await state_of(world.pool, letter_id) is LetterState.OPEN


async def test_a_group_sleeps_until_its_time_and_is_not_shown_before(world: World) -> None:
    one = letter(error=f"Strange{new_id('evt')[-6:]}")
    await park(world.pool, [one])

    async def shown(**params: str) -> bool:
        found = (await ask(world, f"{LETTERS}/groups", {"limit": 100, **params})).json()["groups"]
        return one.fingerprint in {group["fingerprint"] for group in found}

    assert await shown()
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    slept = await do(world, f"{LETTERS}/groups/{one.fingerprint}/snooze", {"until": until})
    assert (slept.status_code, slept.json()["open"]) == (200, 1)
    assert (await shown(), await shown(snoozed="true")) == (False, True)
    await do(world, f"{LETTERS}/groups/{one.fingerprint}/snooze", {"until": None})
    assert await shown()
    owned = await do(world, f"{LETTERS}/groups/{one.fingerprint}/assign", {"owner": "bob"})
    assert owned.json()["owner"] == "bob"


async def test_what_is_not_there_is_not_found(world: World) -> None:
    for path, slug in (
        (f"{LETTERS}/{new_id('let')}", "letter-not-found"), (f"{LETTERS}/let_1", "letter-not-found"),
        (f"{LETTERS}/%00", "letter-not-found"), (f"{LETTERS}/{new_id('let')}/body", "letter-not-found"),
        (f"{LETTERS}/groups/{'0' * 16}", "letter-group-not-found"), (f"{LETTERS}/groups/x", "letter-group-not-found"),
        (f"/v1/ops/replays/{new_id('rpl')}", "replay-not-found"), ("/v1/ops/replays/x", "not-found"),
        (f"/v1/ops/edits/{new_id('edt')}", "edit-not-found"), (f"/v1/ops/rules/{new_id('rul')}", "rule-not-found"),
        (f"/v1/ops/rules/{new_id('rul')}/uses", "rule-not-found"), (f"/v1/ops/replays/{new_id('rpl')}/items", "replay-not-found"),
    ):  # fmt: skip
        answer = await ask(world, path)
        assert (answer.status_code, _slug(answer)) == (404, slug), path
    for verb, body in (
        ("replay", {}),
        ("discard", {"reason": "x"}),
        ("note", {"text": "x"}),
        ("edit", {"reason": "x", "patch": {"a": 1}}),
    ):
        answer = await do(world, f"{LETTERS}/{new_id('let')}/{verb}", body)
        assert (answer.status_code, _slug(answer)) == (404, "letter-not-found"), verb


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("discard", {}, "reason"),
        ("discard", {"reason": ""}, "reason"),
        ("discard", {"reason": "   "}, "reason"),
        ("discard", {"reason": "a\x00"}, "reason"),
        ("discard", {"reason": "x" * 501}, "reason"),
        ("discard", {"reason": "x", "state": "resolved"}, "state"),
        ("replay", {"version": 0}, "version"),
        ("replay", {"version": 2**40}, "version"),
        ("note", {"text": "a\x1b[2J"}, "text"),
        ("assign", {}, "owner"),
        ("assign", {"owner": ""}, "owner"),
        ("snooze", {"until": "soon"}, "until"),
        ("snooze", {"until": "2026-01-01T00:00:00"}, "until"),
        ("snooze", {"until": "2001-01-01T00:00:00Z"}, "until"),
        ("snooze", {"until": "0001-01-01T00:00:00+14:00"}, "until"),
    ],
)
async def test_a_change_that_cannot_be_names_the_field(world: World, verb: str, body: dict[str, Any], field: str) -> None:
    (letter_id,) = await park(world.pool, [letter()])
    before = await everything(world.pool)
    answer = await do(world, f"{LETTERS}/{letter_id}/{verb}", body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
    assert await everything(world.pool) == before


async def test_alerts_and_the_outbox_are_shown(world: World) -> None:
    one = poison()
    await park(world.pool, [one])
    alerts = (await ask(world, "/v1/ops/alerts")).json()["alerts"]
    assert one.fingerprint in {alert["subject"] for alert in alerts if alert["kind"] == "poison"}
    assert {alert["runbook"] for alert in alerts if alert["kind"] == "poison"} == {"docs/runbooks/poison.md"}
    lanes = (await ask(world, "/v1/ops/outbox")).json()["lanes"]
    assert {lane["lane"] for lane in lanes} == {"rabbitmq", "kafka"}


async def test_every_refusal_of_letters_has_a_problem_of_its_own() -> None:
    assert all((abbreviated, actions, effects, keeper, refusals, replays, rules))

    def leaves(kind: type[Refuse]) -> list[type[Refuse]]:
        return [kind, *(leaf for below in kind.__subclasses__() for leaf in leaves(below))]

    elsewhere = {"ambiguous", "not-compensable"}  # shortened ids are the command line's; the last is the rules' engine's
    slugs = {leaf.slug for leaf in leaves(Refuse) if leaf.__module__.startswith("outbox.letters")} - elsewhere
    assert {"letter-moved", "rule-would-loop", "edit-decided"} <= slugs
    assert slugs <= set(BY_SLUG)
