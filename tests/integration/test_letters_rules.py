"""Rules in the database: what is refused and changes nothing, what a dry run says and what then happens, what is shipped."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from orders.errors import Invalid, Refuse
from outbox.letters import library, rules
from outbox.letters.actions import snooze, snooze_group
from outbox.letters.model import LetterState, NeedsApproval
from outbox.letters.refusals import MatchesEverything, WouldLoop
from outbox.letters.rule_model import Rule, read_rule
from outbox.letters.rules import NoSuchRule, RuleExists, RuleMoved, ShippedRule
from tests.integration.replays_ground import ANN, BOB, clean, everything, failed, letter, now, outbox, park
from tests.integration.test_letters_fixing import AWAY, HOUR, SMS, desk, fixed, ruled, uses
from tests.integration.workers_ground import Ground, ground
from tests.making import placed

__all__ = ["clean", "desk", "ground"]


async def _rules(desk: Ground) -> list[str]:
    return sorted(map(repr, await desk.pool.fetch("SELECT * FROM letter_rules")))


@pytest.mark.parametrize(
    ("rule", "refusal"),
    [
        ({"match": {}}, MatchesEverything),
        ({"match": {"failure_types": ["payment_declined"]}}, WouldLoop),
        (
            {"match": {"types": ["payment.refund"], "max_generation": 1}, "action": {"do": "patch", "patch": {"amount": 1}}},
            NeedsApproval,
        ),
        ({"match": {"failure_types": ["nonsense"]}}, Invalid),
        ({"match": {**AWAY, "body": [{"path": "a", "equals": 1}]}}, Invalid),
        ({"per_hour": 0}, Invalid),
        ({"expires_at": "2020-01-01T00:00:00Z"}, Invalid),
        ({"name": "library/of-mine"}, Invalid),
        ({"name": "taken"}, RuleExists),
        ({"rule_id": "rul_none"}, NoSuchRule),
    ],
)
async def test_a_rule_that_is_refused_changes_nothing(desk: Ground, rule: dict[str, Any], refusal: type[Refuse]) -> None:
    await ruled(desk, name="taken")
    before = await _rules(desk)
    with pytest.raises(refusal):
        await ruled(desk, **{"name": "new", **rule})
    assert await _rules(desk) == before


async def test_two_people_change_one_rule_and_the_second_is_told_to_read_it_again(desk: Ground) -> None:
    rule = await ruled(desk)
    assert rule.version == 1
    mine = await rules.put(
        desk.pool, msgspec.structs.replace(rule, per_hour=7), actor=ANN, now=now(), version=rule.version
    )  # fmt: skip
    assert (mine.version, mine.per_hour, mine.updated_by) == (2, 7, ANN)
    with pytest.raises(RuleMoved):
        await rules.put(desk.pool, msgspec.structs.replace(rule, per_hour=9), actor=BOB, now=now(), version=rule.version)
    with pytest.raises(RuleMoved):
        await rules.switch(desk.pool, rule.name, enabled=False, version=1, actor=BOB, now=now())
    assert (await rules.get(desk.pool, rule.rule_id, now=now())).per_hour == 7


async def test_a_rule_is_renamed_by_its_id_but_not_to_a_name_that_is_taken(desk: Ground) -> None:
    one, two = await ruled(desk, name="one"), await ruled(desk, name="two")
    renamed = await rules.put(desk.pool, msgspec.structs.replace(one, name="three"), actor=ANN, now=now(), version=1)
    assert (renamed.rule_id, renamed.name) == (one.rule_id, "three")
    with pytest.raises(RuleExists):
        await rules.put(desk.pool, msgspec.structs.replace(two, name="three"), actor=ANN, now=now(), version=1)
    with pytest.raises(NoSuchRule):
        await rules.get(desk.pool, "one", now=now())


async def test_a_put_that_is_only_tried_writes_nothing(desk: Ground) -> None:
    wanted = Rule(name="tried", match=read_rule(_plain()).match, action=read_rule(_plain()).action, expires_at=now() + HOUR)
    await rules.put(desk.pool, wanted, actor=ANN, now=now(), dry_run=True)
    assert await rules.list_rules(desk.pool, now=now()) == []


def _plain() -> dict[str, Any]:
    return {"name": "x", "match": AWAY, "action": {"do": "replay"}, "expires_at": (now() + HOUR).isoformat()}


async def test_off_is_possible_even_for_a_rule_that_would_not_be_taken_any_more(desk: Ground) -> None:
    rule = await ruled(desk, expires_at=(now() + HOUR).isoformat())
    off = await rules.switch(desk.pool, rule.name, enabled=False, version=None, actor=ANN, now=now() + 2 * HOUR)
    assert not off.enabled
    with pytest.raises(Invalid) as refused:
        await rules.switch(desk.pool, rule.name, enabled=True, version=None, actor=ANN, now=now() + 2 * HOUR)
    assert refused.value.field == "expires_at"


async def test_the_library_is_installed_once_and_keeps_what_operators_set(desk: Ground) -> None:
    assert await library.install(desk.pool, now()) == len(library.LIBRARY)
    assert await library.install(desk.pool, now()) == 0
    listed = {rule.name: rule for rule in await rules.list_rules(desk.pool, now=now())}
    assert {name: rule.enabled for name, rule in listed.items()} == {
        f"library/{fix.name}": fix.enabled for fix in library.LIBRARY
    }  # fmt: skip
    rule = listed["library/service-unavailable"]
    quiet = msgspec.structs.replace(rule, enabled=False, per_hour=3, expires_at=now() + HOUR)
    await rules.put(desk.pool, quiet, actor=ANN, now=now(), version=rule.version)
    await desk.pool.execute("UPDATE letter_rules SET description = 'of an older release' WHERE rule_id = $1", rule.rule_id)
    assert await library.install(desk.pool, now()) == 1
    kept = await rules.get(desk.pool, rule.name, now=now())
    assert (kept.enabled, kept.per_hour, kept.expires_at, kept.description) == (
        False, 3, quiet.expires_at, rule.description,
    )  # fmt: skip


async def test_a_shipped_rule_is_switched_and_limited_but_what_it_does_is_not_edited(desk: Ground) -> None:
    await library.install(desk.pool, now())
    rule = await rules.get(desk.pool, "library/service-unavailable", now=now())
    before = await _rules(desk)
    for change in (
        {"match": read_rule({**_plain(), "match": {**SMS, "max_generation": 1}}).match},
        {"name": "mine"},
        {"description": "mine"},
    ):
        with pytest.raises(ShippedRule):
            await rules.put(desk.pool, msgspec.structs.replace(rule, **change), actor=ANN, now=now(), version=rule.version)
    assert await _rules(desk) == before
    copied = msgspec.structs.replace(rule, name="mine", rule_id="", shipped=False, version=0)
    await rules.put(desk.pool, copied, actor=ANN, now=now())
    names = [each.name for each in await rules.list_rules(desk.pool, now=now())]
    assert names[0] == "mine"  # people's rules are asked first


async def test_a_rule_that_is_shipped_no_longer_is_switched_off(desk: Ground) -> None:
    await library.install(desk.pool, now())
    await rules.install(desk.pool, library.shipped(now())[1:], now=now())
    off = await rules.get(desk.pool, library.shipped(now())[0].name, now=now())
    assert not off.enabled


@pytest.mark.parametrize(
    ("action", "match"),
    [
        ({"do": "replay"}, AWAY),
        ({"do": "delay", "for_s": 60}, AWAY),
        ({"do": "discard", "reason": "old"}, SMS),
        (
            {"do": "patch", "patch": {"template": "refunded"}},
            {**SMS, "body": [{"path": "$.template", "equals": "payment_failed"}]},
        ),
        ({"do": "compensate", "reason": "failed_message"}, SMS),
        ({"do": "replay"}, {**AWAY, "body": [{"path": "$.recipient", "equals": "nobody"}]}),
    ],
)
async def test_a_dry_run_says_what_then_happens_and_writes_nothing(desk: Ground, action: Any, match: Any) -> None:
    keys = []
    for number in range(7):
        keys += await park(desk, failed(await placed(desk.pool), number=number, failed_at=now() - 3 * HOUR))
    await desk.pool.execute("UPDATE letter_rule_sweep SET under_way = false")
    wanted = read_rule({**_plain(), "name": "foretold", "match": match, "action": action,
                        "expires_at": (now() + HOUR).isoformat()})  # fmt: skip
    before = await everything(desk), await _rules(desk)
    told = await rules.dry_run(desk.pool, wanted, now=now(), days=1)
    assert (await everything(desk), await _rules(desk)) == before
    await rules.put(desk.pool, wanted, actor=ANN, now=now())
    assert await fixed(desk) == told.open == (0 if "nobody" in repr(match) else 7)
    assert told.matching == told.open
    assert [outcome for _, _, outcome in await uses(desk) if outcome.startswith("refused")] == []
    assert len(told.examples) == min(5, told.matching)
    if told.examples and action["do"] == "patch":
        example = told.examples[0]
        assert (example.problem, '+  "template": "refunded"' in example.diff) == ("", True)
        sent = next(row for row in await outbox(desk) if row.headers.get("rushline-letter") == example.letter_id)
        assert msgspec.json.decode(sent.body)["template"] == "refunded"


async def test_a_dry_run_counts_what_would_have_had_to_wait_what_cannot_work_and_what_another_rule_takes(desk: Ground) -> None:
    await ruled(
        desk, {"do": "discard", "reason": "x"}, {**SMS, "body": [{"path": "$.template", "equals": "refunded"}]}, name="a"
    )
    at = now()
    for number in range(6):
        await park(desk, failed(await placed(desk.pool), number=number, failed_at=at - timedelta(minutes=number)))
    await park(desk, failed(await placed(desk.pool), template="refunded", failed_at=at - 5 * HOUR))
    await park(desk, failed(await placed(desk.pool), body=b"{}", failed_at=at - 5 * HOUR))
    (gone,) = await park(desk, failed(await placed(desk.pool), failed_at=at - timedelta(days=3)))
    wanted = read_rule({**_plain(), "name": "b", "match": {**SMS, "max_generation": 2}, "per_hour": 4,
                        "action": {"do": "patch", "patch": {"params": {"a": "b"}}},
                        "expires_at": (at + HOUR).isoformat()})  # fmt: skip
    told = await rules.dry_run(desk.pool, wanted, now=at, days=1)
    assert (told.looked_at, told.matching, told.open, told.taken) == (8, 8, 7, 1)
    assert (told.over_limit, told.unworkable, told.complete) == (2, 1, True)
    assert told.by_state == {"open": 8}
    longer = await rules.dry_run(desk.pool, wanted, now=at, days=7)
    assert longer.matching == 9
    assert gone not in {each.letter_id for each in told.examples}
    with pytest.raises(Invalid, match="days"):
        await rules.dry_run(desk.pool, wanted, now=at, days=0)
    with pytest.raises(MatchesEverything):
        await rules.dry_run(desk.pool, read_rule({**_plain(), "match": {}}), now=at, days=1)


async def test_a_dry_run_says_which_letters_are_taken_only_when_they_wake(desk: Ground) -> None:
    one, _ = await park(desk, failed(await placed(desk.pool)), failed(await placed(desk.pool)))
    wanted = read_rule({**_plain(), "match": {**SMS, "max_generation": 2}})
    await snooze(desk.pool, one, until=now() + HOUR / 4, actor=ANN, version=None, now=now())
    told = await rules.dry_run(desk.pool, wanted, now=now(), days=1)
    assert (told.open, told.asleep) == (2, 1)
    assert (await rules.dry_run(desk.pool, wanted, now=now() + HOUR / 2, days=1)).asleep == 0
    await snooze_group(desk.pool, (await letter(desk, one)).fingerprint, until=now() + HOUR / 4, actor=ANN, now=now())
    assert (await rules.dry_run(desk.pool, wanted, now=now(), days=1)).asleep == 2
    await rules.put(desk.pool, wanted, actor=ANN, now=now())
    await fixed(desk)
    assert await uses(desk) == []


async def test_a_dry_run_of_a_rule_in_use_says_what_it_has_left_to_do(desk: Ground) -> None:
    rule = await ruled(desk, {"do": "delay", "for_s": 3_600}, per_letter=1)
    one, two = await park(desk, failed(await placed(desk.pool)), failed(await placed(desk.pool)))
    await fixed(desk)
    await fixed(desk, now() + 2 * HOUR)
    assert (await letter(desk, one)).state is (await letter(desk, two)).state is LetterState.REPLAYING
    (three,) = await park(desk, failed(await placed(desk.pool)))
    told = await rules.dry_run(desk.pool, rule, now=now(), days=1)
    assert (told.matching, told.open, told.by_state) == (3, 1, {"open": 1, "replaying": 2})
    assert told.examples[0].letter_id == three
