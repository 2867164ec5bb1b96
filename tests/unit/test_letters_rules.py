"""Which automatic fixes are refused, what each refusal names, and how a rule's limit is shared out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.settings import Settings
from orders.errors import Invalid, Refuse
from orders.failures import Category, FailureType
from outbox.letters.foretelling import over_limit
from outbox.letters.library import LIBRARY, shipped
from outbox.letters.matching import Match
from outbox.letters.model import LetterState, NeedsApproval, Source
from outbox.letters.refusals import MatchesEverything, WouldLoop, categories, check
from outbox.letters.rule_model import Delay, Discard, Replay, Rule, read_rule
from outbox.letters.waiting import Chosen, Seen, Used, choose, room_for, waits_until, within_limits

NOW = datetime(2026, 3, 14, 18, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
TRANSIENT = {"failure_types": ["service_unavailable"]}
SMS = {"types": ["notification.sms"]}


def given_rule(match: Any = TRANSIENT, action: Any = None, **values: Any) -> dict[str, Any]:
    rule = {"name": "a rule", "match": match, "action": action or {"do": "replay"}, "expires_at": "2026-06-01T00:00:00Z"}
    return {**rule, **values}


@pytest.mark.parametrize(
    "rule",
    [
        given_rule(),
        given_rule({"category": "transient"}),
        given_rule({"fingerprint": "f", "max_generation": 2}),
        given_rule({"failure_types": ["invalid_message"], "max_generation": 1}),
        given_rule(TRANSIENT, {"do": "delay", "for_s": 900}),
        given_rule(TRANSIENT, {"do": "delay", "until": "2026-03-15T00:00:00+01:00"}),
        given_rule(SMS, {"do": "discard", "reason": "nobody reads it any more", "after_s": 86_400}),
        given_rule({"types": ["restaurant.notify"]}, {"do": "compensate", "reason": "failed_message"}),
        given_rule({**SMS, "max_generation": 1}, {"do": "patch", "patch": {"template": "refunded"}}),
        given_rule(
            {**SMS, "body": [{"path": "$.template", "equals": "refund"}]}, {"do": "patch", "patch": {"template": "refunded"}}
        ),
        given_rule({**SMS, "body": [{"path": "$.params.x", "exists": True}]}, {"do": "patch", "patch": {"params": {"x": None}}}),
        given_rule({"body": [{"path": "$.template", "in": ["a", "b"]}], "max_generation": 3}),
    ],
)  # fmt: skip
def test_a_rule_that_says_what_it_mends_and_how_often_is_taken_and_is_read_back_as_it_was_given(rule: dict[str, Any]) -> None:
    read = read_rule(msgspec.json.encode(rule))
    check(read, NOW)
    assert read_rule(msgspec.to_builtins(read)) == read


@pytest.mark.parametrize(
    "match",
    [
        {},
        {"failure_types": [kind.value for kind in FailureType]},
        {"max_generation": 3},
        {"min_attempts": 0, "max_attempts": 900},
        {"body": [{"path": "$", "exists": True}]},
        {"body": [{"path": "$.order_id", "exists": True}, {"path": "$['position']", "exists": True}], "max_generation": 1},
    ],
)
@pytest.mark.parametrize("action", [{"do": "replay"}, {"do": "discard", "reason": "x"}, {"do": "compensate", "reason": "x"}])
def test_a_rule_that_matches_everything_is_refused(match: Any, action: Any) -> None:
    with pytest.raises(MatchesEverything):
        check(read_rule(given_rule(match, action)), NOW)


@pytest.mark.parametrize(
    ("match", "action"),
    [
        ({"failure_types": ["payment_declined"]}, {"do": "replay"}),
        ({"failure_types": ["invalid_message"]}, {"do": "delay", "for_s": 60}),
        ({"category": "permanent"}, {"do": "replay"}),
        ({"fingerprint": "f"}, {"do": "replay"}),
        ({"consumer": "payments"}, {"do": "replay"}),
        (SMS, {"do": "patch", "patch": {"template": "refunded"}}),
        ({**SMS, "body": [{"path": "$.recipient", "equals": "x"}]}, {"do": "patch", "patch": {"template": "refunded"}}),
        ({**SMS, "body": [{"path": "$.template", "exists": True}]}, {"do": "patch", "patch": {"template": "refunded"}}),
        ({"types": ["order.cancel", "restaurant.notify"]}, {"do": "compensate", "reason": "failed_message"}),
    ],
)
def test_a_rule_that_would_loop_is_refused(match: Any, action: Any) -> None:
    with pytest.raises(WouldLoop):
        check(read_rule(given_rule(match, action)), NOW)


@pytest.mark.parametrize(
    ("match", "action"),
    [
        ({"types": ["payment.charge"], "max_generation": 1}, {"do": "patch", "patch": {"x": 1}}),
        ({"types": ["notification.sms", "payment.refund"], "max_generation": 1}, {"do": "patch", "patch": {"amount": 1}}),
        ({"types": ["payment.refund"]}, {"do": "discard", "reason": "too many"}),
    ],
)
def test_a_rule_touches_no_money(match: Any, action: Any) -> None:
    with pytest.raises(NeedsApproval):
        check(read_rule(given_rule(match, action)), NOW)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"surprise": 1}, "rule"),
        ({"match": {"kind": "x"}}, "match"),
        ({"match": {"failure_types": ["gremlins"]}}, "match.failure_types[0]"),
        ({"match": {"types": ["order.fly"]}}, "match.types[0]"),
        ({"match": {"consumer": ""}}, "match.consumer"),
        ({"match": {**TRANSIENT, "min_attempts": -1}}, "match.min_attempts"),
        ({"match": {**TRANSIENT, "min_attempts": 4, "max_attempts": 3}}, "match.min_attempts"),
        ({"match": {**TRANSIENT, "max_generation": 11}}, "match.max_generation"),
        ({"match": {**TRANSIENT, "category": "poison"}}, "match.category"),
        ({"match": {**TRANSIENT, "body": [{"path": "$..a", "exists": True}]}}, "match.body[0].path"),
        ({"match": {**TRANSIENT, "body": [{"path": "$.a"}]}}, "match.body[0]"),
        ({"match": {**TRANSIENT, "body": [{"path": "$.a", "exists": True, "equals": 1}]}}, "match.body[0]"),
        ({"match": {**TRANSIENT, "body": [{"path": "$.a", "in": []}]}}, "match.body[0].in"),
        ({"match": {**TRANSIENT, "body": [{"path": "$.a", "like": "x"}]}}, "match.body[0]"),
        ({"action": {"do": "explode"}}, "action.do"),
        ({"action": {"do": "replay", "twice": True}}, "action"),
        ({"action": {"do": "delay"}}, "action"),
        ({"action": {"do": "delay", "for_s": 0}}, "action.for_s"),
        ({"action": {"do": "delay", "until": "2026-03-14T18:00:00Z"}}, "action.until"),
        ({"action": {"do": "delay", "until": "2026-07-01T00:00:00Z"}}, "action.until"),
        ({"action": {"do": "discard", "reason": " "}}, "action.reason"),
        ({"action": {"do": "discard", "reason": "x"}}, "match.types"),
        ({"action": {"do": "compensate", "reason": "Not A Word"}}, "action.reason"),
        ({"action": {"do": "compensate", "reason": "fraud"}}, "action.reason"),
        ({"action": {"do": "compensate", "reason": "restaurant_timeout"}}, "action.reason"),
        ({"action": {"do": "patch", "patch": {"template": "x"}}}, "match.types"),
        ({"match": SMS, "action": {"do": "patch", "patch": {}}}, "action.patch"),
        ({"match": SMS, "action": {"do": "patch", "patch": {"order_id": "x"}}}, "action.patch.order_id"),
        ({"match": SMS, "action": {"do": "patch", "patch": {"templat": "x"}}}, "action.patch.templat"),
        ({"match": SMS, "action": {"do": "patch", "patch": {"template": None}}}, "action.patch.template"),
        ({"match": SMS, "action": {"do": "patch", "patch": {"template": 7}}}, "action.patch.template"),
        ({"match": SMS, "action": {"do": "patch", "patch": {"params": {"a": 7}}}}, "action.patch.params"),
        ({"match": {"types": ["order.placed"]}, "action": {"do": "patch", "patch": {"a": 1}}}, "match.types[0]"),
        ({"per_hour": 0}, "per_hour"),
        ({"per_hour": 10_001}, "per_hour"),
        ({"per_letter": 11}, "per_letter"),
        ({"expires_at": "2026-03-14T18:30:00Z"}, "expires_at"),
        ({"expires_at": "2027-04-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2026-06-01T00:00:00"}, "expires_at"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"description": "x" * 2_001}, "description"),
    ],
)
def test_a_refusal_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(read_rule(given_rule() | changes), NOW)
    assert refused.value.field == field


@pytest.mark.parametrize("given_bytes", [b"", b"\xff", b"[" * 100_000, b"[]", b"null"])
def test_what_is_no_rule_at_all_is_refused(given_bytes: bytes) -> None:
    with pytest.raises(Invalid):
        read_rule(given_bytes)


@given(
    st.sets(st.sampled_from(FailureType), max_size=3),
    st.none() | st.sampled_from(Category),
    st.none() | st.integers(1, 10),
    st.sampled_from([Replay(), Delay(for_s=60)]),
)
def test_no_rule_that_is_taken_sends_the_same_failure_again_without_end(
    kinds: set[FailureType], category: Category | None, most: int | None, action: Replay | Delay
) -> None:
    match = Match(failure_types=tuple(sorted(kinds)), category=category, max_generation=most)
    rule = Rule(name="a", match=match, action=action, expires_at=NOW + HOUR)
    try:
        check(rule, NOW)
    except Refuse:
        return
    assert most is not None or categories(match) == {Category.TRANSIENT}
    assert 1 <= rule.per_letter <= 10


@pytest.mark.parametrize("rule", shipped(NOW), ids=lambda rule: rule.name)
def test_each_shipped_rule_is_one_that_would_be_taken_and_says_why_it_is_right(rule: Rule) -> None:
    check(rule, NOW)
    assert rule.name.startswith("library/")
    assert len(rule.description) > 80


def test_shipped_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in shipped(NOW)}) == len(LIBRARY)


def seen(**values: Any) -> Seen:
    known = {
        "letter_id": "let_1", "source": Source.COMMAND, "message_id": "cmd_1", "state": LetterState.OPEN, "version": 1,
        "generation": 1, "fingerprint": "f", "failure_type": "service_unavailable", "category": "transient",
        "type": "notification.sms", "consumer": "notifications", "reason": "messaging-unavailable",
        "error": "MessagingUnavailable", "attempts": 4, "order_id": "ord_1", "parked_at": NOW, "body": b"{}",
    }  # fmt: skip
    return Seen(**{**known, **values})


def rule_named(name: str, **values: Any) -> Rule:
    return read_rule(given_rule(name=name, **values) | {"rule_id": f"rul_{name}"})


def test_the_first_rule_that_is_not_used_up_takes_the_letter() -> None:
    one, two = rule_named("one", per_letter=2), rule_named("two")
    for uses, expected in [
        ({}, "one"),
        ({"one": Used(1, None)}, "one"),
        ({"one": Used(2, None)}, "two"),
        ({"one": Used(1, "sent")}, "two"),
        ({"one": Used(1, "refused: not-replayable")}, "two"),
        ({"one": Used(1, "sent"), "two": Used(1, "sent")}, None),
    ]:
        used = {("let_1", f"rul_{name}"): use for name, use in uses.items()}
        chosen = choose([one, two], seen(), used)
        assert (chosen.rule.name if chosen else None) == expected
        assert chosen is None or not chosen.ripe
    waited = choose([one, two], seen(), {("let_1", "rul_one"): Used(2, "delayed")})
    assert waited == Chosen(seen(), one, ripe=True)


def test_a_wait_is_counted_from_when_the_letter_was_parked_in_business_time() -> None:
    letter, settings = seen(), Settings(time_scale=60)
    assert waits_until(Delay(for_s=900), letter, settings) == NOW + timedelta(seconds=15)
    assert waits_until(Delay(until=NOW + HOUR), letter, settings) == NOW + HOUR
    assert waits_until(Discard(reason="x", after_s=3_600), letter, settings) == NOW + timedelta(minutes=1)
    assert waits_until(Discard(reason="x"), letter, settings) is None
    assert waits_until(Replay(), letter, settings) is None


@given(st.integers(1, 20), st.integers(0, 25), st.integers(1, 60))
def test_who_finds_no_room_waits_behind_those_before_and_each_has_a_time_of_its_own(
    per_hour: int, used: int, many: int
) -> None:
    rule = rule_named("a", per_hour=per_hour)
    room = room_for(rule, used, NOW - HOUR / 2 if used else None, None, HOUR, NOW)
    chosen = [Chosen(seen(letter_id=f"let_{n}"), rule, ripe=False) for n in range(many)]
    now, later = within_limits(chosen, {rule.rule_id: room}, 100)
    assert len(now) == min(many, max(0, per_hour - used))
    assert [each.letter.letter_id for each in now] + [each.letter.letter_id for each, _ in later] == [
        f"let_{n}" for n in range(many)
    ]
    times = [at for _, at in later]
    assert times == sorted(set(times))
    assert all(at > NOW for at in times)


def test_who_comes_after_the_last_that_a_step_mends_keeps_its_place() -> None:
    rule = rule_named("a", per_hour=3)
    chosen = [Chosen(seen(letter_id=f"let_{n}"), rule, ripe=False) for n in range(5)]
    now, later = within_limits(chosen, {rule.rule_id: room_for(rule, 0, None, None, HOUR, NOW)}, 2)
    assert [each.letter.letter_id for each in now] == ["let_0", "let_1"]
    assert later == []


def test_nobody_overtakes_those_who_wait_for_room_and_a_wait_that_is_over_needs_none() -> None:
    rule = rule_named("a", per_hour=10)
    waiting = Chosen(seen(letter_id="let_old", waits_for=rule.rule_id), rule, ripe=False)
    new, ripe = Chosen(seen(letter_id="let_new"), rule, ripe=False), Chosen(seen(letter_id="let_ripe"), rule, ripe=True)
    room = room_for(rule, 0, None, NOW + HOUR, HOUR, NOW)
    now, later = within_limits([new, waiting, ripe], {rule.rule_id: room}, 100)
    assert [each.letter.letter_id for each in now] == ["let_old", "let_ripe"]
    assert [(each.letter.letter_id, at) for each, at in later] == [("let_new", NOW + HOUR + HOUR / 10)]


def test_what_would_have_had_to_wait_is_counted_over_the_hour_before_each() -> None:
    assert over_limit([NOW + timedelta(minutes=n) for n in range(10)], 4) == 6
    assert over_limit([NOW + n * HOUR for n in range(10)], 1) == 0
    assert over_limit([], 1) == 0
