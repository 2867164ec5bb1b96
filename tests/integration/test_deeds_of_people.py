"""Whatever people and rules do beside the orders' own steps is on record, in the transaction of the deed: letters, groups, replays,
rules, looks at letters, granted roles. Where it cannot be recorded, it is not done.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from adapters.postgres import connect, open_pool
from adapters.settings import Settings
from console.token import token
from orders.ids import new_id
from orders.names import Command
from outbox.letters import actions, library, replays, rules
from outbox.letters.desk import desk
from outbox.letters.fixing import step as fix
from outbox.letters.model import LetterFilter
from outbox.letters.stepping import step as go_on
from outbox.transition import utc_now
from tests.integration.gateway_world import World, gateway_settings, served, world
from tests.integration.letters_desk import everything, letter, park
from tests.integration.support_world import deeds, whole

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def post(world: World, path: str, body: Any, who: str, **params: Any) -> httpx.Response:
    return await world.http.post(f"/v1/ops{path}", json=body, params=params, headers=world.token("operator", who))


async def of(world: World, who: str) -> list[dict[str, Any]]:
    seen = await deeds(world, desk(who))
    assert whole(seen)
    return seen


def someone() -> str:
    return new_id("sup")


async def _no_order(world: World, **changes: Any) -> str:
    made = msgspec.structs.replace(letter(**changes), order_id=None)
    (letter_id,) = await park(world.pool, [made])
    return letter_id


DEEDS = (
    ("replay", "replayed", {}), ("discard", "discarded", {"reason": "nobody needs it"}), ("note", "noted", {"text": "look again"}),
    ("assign", "assigned", {"owner": "tom"}), ("snooze", "snoozed", {"until": "2099-01-01T00:00:00Z"}),
    ("edit", "edit sent", {"reason": "typo", "patch": {"template": "refunded"}}),
)  # fmt: skip
SMS = {"order_id": "ord_01958f6e-0000-7000-8000-000000000001", "position": 1, "recipient": "cus_1", "template": "refundd"}


@pytest.mark.parametrize(("verb", "act", "body"), DEEDS, ids=[verb for verb, _, _ in DEEDS])
async def test_what_is_done_to_a_letter_of_no_order_is_on_record(world: World, verb: str, act: str, body: Any) -> None:
    who = someone()
    letter_id = await _no_order(world, kind=Command.NOTIFICATION_SMS, body=msgspec.json.encode(SMS))
    before = await everything(world.pool)
    tried = await post(world, f"/dead-letters/{letter_id}/{verb}", body, who, dry_run=True)
    assert tried.status_code == 200, tried.text
    assert await everything(world.pool) == before
    answer = await post(world, f"/dead-letters/{letter_id}/{verb}", body, who)
    assert answer.status_code == 200, answer.text
    (deed,) = await of(world, who)
    assert (deed["action"], deed["details"]["act"], deed["details"]["letter_id"]) == ("letter.changed", act, letter_id)
    assert deed["actor"] == {"type": "operator", "id": who}
    said = body.get("reason") or body.get("text")
    assert deed["reason"] == said


@pytest.mark.parametrize("verb", ["replay", "note", "assign", "snooze"])
async def test_what_is_done_to_a_letter_of_an_order_is_beside_that_order(world: World, verb: str) -> None:
    order_id = await world.paid()
    (letter_id,) = await park(world.pool, [letter(Command.NOTIFICATION_SMS, order_id=order_id)])
    body = next(body for name, _, body in DEEDS if name == verb)
    answer = await post(world, f"/dead-letters/{letter_id}/{verb}", body, someone())
    assert answer.status_code == 200, answer.text
    (deed,) = await deeds(world, f"{order_id}.looks")
    assert (deed["action"], deed["order_id"], deed["details"]["letter_id"]) == ("letter.changed", order_id, letter_id)


async def test_a_discarded_letter_of_an_order_is_in_the_orders_own_chain_alone(world: World) -> None:
    order_id, who = await world.paid(), someone()
    (letter_id,) = await park(world.pool, [letter(Command.NOTIFICATION_SMS, order_id=order_id)])
    answer = await post(world, f"/dead-letters/{letter_id}/discard", {"reason": "done by hand"}, who)
    assert answer.status_code == 200
    last = (await deeds(world, order_id))[-1]
    assert (last["action"], last["details"]["act"]) == ("support.intervention", "discarded")
    assert await deeds(world, f"{order_id}.looks") == await of(world, who) == []


async def test_many_discards_name_each_letter_that_no_order_carries(world: World) -> None:
    who, owner = someone(), someone()
    made = [await _no_order(world) for _ in range(3)]
    for letter_id in made:
        await actions.assign(world.pool, letter_id, owner=owner, actor="ann", version=None, now=utc_now())
    answer = await post(world, "/discards", {"filter": {"owner": owner}, "reason": "a bad day"}, who)
    assert (answer.status_code, answer.json()["discarded"]) == (200, 3), answer.text
    (deed,) = await of(world, who)
    assert (deed["details"], deed["reason"]) == ({"act": "discarded", "letters": sorted(made)}, "a bad day")


@pytest.mark.parametrize(("verb", "body"), [("assign", {"owner": "tom"}), ("snooze", {"until": "2099-01-01T00:00:00Z"})])
async def test_what_is_done_to_a_group_is_on_record(world: World, verb: str, body: Any) -> None:
    who, made = someone(), letter(error=f"Oven{new_id('let')[-8:]}")
    await park(world.pool, [made])
    answer = await post(world, f"/dead-letters/groups/{made.fingerprint}/{verb}", body, who)
    assert answer.status_code == 200, answer.text
    (deed,) = await of(world, who)
    assert (deed["details"]["fingerprint"], deed["details"]["act"]) == (made.fingerprint, f"group_{verb.rstrip('e')}ed")


async def test_a_replay_is_on_record_from_its_beginning_to_its_end(world: World) -> None:
    who, made = someone(), letter(error=f"Oven{new_id('let')[-8:]}")
    await park(world.pool, [made])
    replay = await replays.create(
        world.pool, LetterFilter(fingerprint=made.fingerprint), reason="it is back", actor=who, now=utc_now()
    )
    await replays.pause(world.pool, replay.replay_id, actor=who, now=utc_now())
    await replays.resume(world.pool, replay.replay_id, actor=who, now=utc_now())
    await replays.cancel(world.pool, replay.replay_id, actor=who, now=utc_now())
    seen = await of(world, who)
    assert [(each["action"], each["details"]["act"]) for each in seen] == [
        ("replay.changed", act) for act in ("begun", "paused", "resumed", "cancelled")
    ]
    assert (seen[0]["reason"], seen[0]["details"]["filter"]["fingerprint"]) == ("it is back", made.fingerprint)


async def test_a_replay_that_ends_or_stops_by_itself_says_so(world: World) -> None:
    made = letter(error=f"Oven{new_id('let')[-8:]}")
    (letter_id,) = await park(world.pool, [made])
    wanted = LetterFilter(fingerprint=made.fingerprint)
    replay = await replays.create(world.pool, wanted, reason="it is back", actor=someone(), now=utc_now())
    await go_on(world.pool, utc_now())
    await actions.note(world.pool, letter_id, text="x", actor="ann", now=utc_now())
    await world.pool.execute(
        "UPDATE letter_replay_items SET state = 'done' WHERE replay_id = $1 AND letter_id = $2", replay.replay_id, letter_id
    )
    await go_on(world.pool, utc_now())
    seen = [each["details"] for each in await of(world, "keeper") if each["details"].get("replay_id") == replay.replay_id]
    assert [each["act"] for each in seen] == ["done"]


def _rule(name: str, **changes: Any) -> Any:
    given = {
        "name": name, "match": {"error": f"Never{name}", "max_generation": 1}, "action": {"do": "replay"}, "per_hour": 5, "per_letter": 1,
        "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(), "enabled": True, **changes,
    }  # fmt: skip
    return rules.read_rule(msgspec.json.encode(given))


async def test_a_rule_is_on_record_when_it_is_written_changed_switched_and_when_it_expires(world: World) -> None:
    who, name = someone(), f"rule-{new_id('rul')[-8:]}"
    rule = await rules.put(world.pool, _rule(name), actor=who, now=utc_now())
    changed = msgspec.structs.replace(rule, per_hour=9)
    rule = await rules.put(world.pool, changed, actor=who, now=utc_now(), version=rule.version)
    await rules.switch(world.pool, rule.rule_id, enabled=False, version=None, actor=who, now=utc_now())
    seen = await of(world, who)
    assert [each["details"]["act"] for each in seen] == ["created", "changed", "switched_off"]
    assert [each["details"]["per_hour"] for each in seen[:2]] == [5, 9]
    assert json.loads(seen[0]["details"]["says"])["match"]["error"] == f"Never{name}"
    for _ in range(2):  # once
        await fix(world.pool, world.settings, utc_now() + timedelta(days=2))
    expired = [each["details"] for each in await of(world, "keeper") if each["details"].get("rule_id") == rule.rule_id]
    assert [each["act"] for each in expired] == ["expired"]


async def test_rules_that_come_with_the_library_are_on_record_once(world: World) -> None:
    installed = await library.install(world.pool, utc_now())
    seen = [each["details"]["act"] for each in await of(world, "library")]
    assert seen == ["installed"] * installed
    await library.install(world.pool, utc_now())
    assert len(await of(world, "library")) == len(seen)


async def test_a_rule_that_fires_on_a_letter_of_no_order_is_on_record_under_its_own_name(world: World) -> None:
    error = f"Oven{new_id('let')[-8:]}"
    rule = await rules.put(
        world.pool, _rule(f"rule-{error}", match={"error": error, "max_generation": 1}), actor=someone(), now=utc_now()
    )
    letter_id = await _no_order(world, error=error)
    for _ in range(20):
        if not await fix(world.pool, world.settings, utc_now()):
            break
    fired = [each for each in await deeds(world, f"desk.rule:{rule.rule_id}") if each["action"] == "rule.fired"]
    assert [(each["details"]["letter_id"], each["details"]["outcome"]) for each in fired] == [(letter_id, "sent")]


@pytest.mark.parametrize(("path", "part"), [("", "detail"), ("/body", "body")])
async def test_reading_a_letters_body_is_on_record_beside_its_order(world: World, path: str, part: str) -> None:
    order_id, who = await world.paid(), someone()
    (mine,) = await park(world.pool, [letter(order_id=order_id)])
    nobodys = await _no_order(world)
    for letter_id in (mine, nobodys):
        answer = await world.http.get(f"/v1/ops/dead-letters/{letter_id}{path}", headers=world.token("operator", who))
        assert answer.status_code == 200
    (of_order,), (of_none,) = await deeds(world, f"{order_id}.looks"), await of(world, who)
    for deed, letter_id in ((of_order, mine), (of_none, nobodys)):
        assert (deed["action"], deed["details"]) == ("letter.viewed", {"letter_id": letter_id, "part": part})
        assert deed["actor"]["id"] == who


async def test_a_letters_body_is_not_shown_where_the_look_cannot_be_recorded(world: World) -> None:
    letter_id = await _no_order(world, message="the secret of the oven")
    async with connect(world.settings.migrate_url, service="test") as owner:
        await owner.execute("REVOKE INSERT ON audit_chains FROM rushline_app")
        try:
            answer = await world.http.get(f"/v1/ops/dead-letters/{letter_id}", headers=world.token("operator", someone()))
        finally:
            await owner.execute("GRANT INSERT ON audit_chains TO rushline_app")
    assert answer.status_code == 500
    assert "oven" not in answer.text


async def _granted(settings: Settings, role: str, subject: str, dsn: str = "") -> Any:
    environment = {
        "RUSHLINE_POSTGRES_DSN": dsn or settings.postgres_dsn, "RUSHLINE_JWT_SECRET": settings.jwt_secret,
        "RUSHLINE_HOME": "/nonexistent",
    }  # fmt: skip
    words = ["--role", role, "--sub", subject, "--ttl", "15m", "--json"]
    return await asyncio.to_thread(CliRunner().invoke, token, words, env=environment)


@pytest.mark.parametrize("role", ["support", "operator", "auditor"])
async def test_a_token_for_staff_is_on_record_or_is_not_made(world: World, role: str) -> None:
    subject = someone()
    made = await _granted(world.settings, role, subject)
    assert made.exit_code == 0, made.output
    headers = {"Authorization": f"Bearer {json.loads(made.output)['token']}"}
    assert (await world.http.get("/v1/support/audit", headers=headers)).status_code in (200, 403)
    rows = await world.pool.fetch("SELECT body FROM outbox WHERE type = 'role.granted'")
    found = [msgspec.json.decode(row["body"])["details"] for row in rows]
    assert {"role": role, "sub": subject, "lifetime_s": 900} in found
    refused = await _granted(world.settings, role, subject, "postgresql://nobody@127.0.0.1:9/none")
    assert refused.exit_code == 2
    assert "must be on record" in refused.output
    assert "token" not in refused.output.replace("A token", "")


@pytest.mark.parametrize("role", ["customer", "restaurant", "driver"])
async def test_a_token_for_somebody_who_sees_only_what_is_theirs_needs_no_database(world: World, role: str) -> None:
    made = await _granted(world.settings, role, "cus_1", "postgresql://nobody@127.0.0.1:9/none")
    assert made.exit_code == 0, made.output


async def test_two_deeds_of_one_person_at_once_are_two_links(world: World) -> None:
    who = someone()
    made = [await _no_order(world) for _ in range(8)]
    async with open_pool(world.settings.postgres_dsn, service="test", size=8) as pool:
        await asyncio.gather(*(actions.note(pool, each, text="x", actor=who, now=utc_now()) for each in made))
    assert [each["position"] for each in await of(world, who)] == list(range(1, 9))
