"""Automatic fixes on a real database: what each does, once per failure, within its limits, and who is told of it."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from adapters.postgres import connect
from orders import parking
from orders.failures import FailureType
from orders.names import Command, State
from outbox.letters import actions, rules
from outbox.letters.fixing import step
from outbox.letters.keeper import Keeper
from outbox.letters.model import Letter, LetterState
from outbox.letters.rule_model import Rule, read_rule
from outbox.transition import finish
from tests.fake_ports import FakePorts
from tests.integration.replays_ground import ANN, clean, failed, going_on, history, letter, now, outbox, park
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually, placed, walked

__all__ = ["clean", "ground"]

HOUR = timedelta(hours=1)
AWAY = {"failure_types": ["service_unavailable"]}
SMS = {"types": ["notification.sms"]}


@pytest.fixture
async def desk(clean: Ground) -> Ground:
    """A ground without rules, whose clocks run as they do on the wall: the tests say what time it is."""
    async with connect(clean.settings.migrate_url, service="tests") as owner:
        await owner.execute("TRUNCATE letter_rules, letter_rule_uses, letter_rule_queue")
        await owner.execute("UPDATE letter_rule_sweep SET under_way = false")
    clean.settings = msgspec.structs.replace(clean.settings, time_scale=1.0)
    return clean


async def ruled(desk: Ground, action: Any = None, match: Any = AWAY, **values: Any) -> Rule:
    """A rule in force, as a person writes it."""
    wanted = {"name": "mend", "match": match, "action": action or {"do": "replay"}, **values}
    wanted.setdefault("expires_at", (now() + timedelta(days=30)).isoformat())
    return await rules.put(desk.pool, read_rule(msgspec.json.encode(wanted)), actor=ANN, now=now())


async def fixed(desk: Ground, at: datetime | None = None) -> int:
    """Steps until there is nothing left to do at that time. Returns how many uses were begun or ended in them."""
    before = await _told(desk)
    for _ in range(100):
        if not await step(desk.pool, desk.settings, at or now()):
            return await _told(desk) - before
    raise AssertionError("the steps do not end")


async def _told(desk: Ground) -> int:
    return int(await desk.pool.fetchval("SELECT count(*) FROM letter_history WHERE action IN ('fixed', 'rule_refused')"))


async def uses(desk: Ground) -> list[tuple[str, int, str]]:
    records = await desk.pool.fetch(
        "SELECT letter_id, generation, outcome FROM letter_rule_uses ORDER BY at, letter_id, generation"
    )
    return [(record["letter_id"], record["generation"], record["outcome"]) for record in records]


async def audited(desk: Ground, order_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Who intervened in the order, and what they recorded."""
    records = await desk.pool.fetch(
        "SELECT audit FROM order_events WHERE order_id = $1 AND type = 'support.intervention' ORDER BY position", order_id
    )
    events = [msgspec.json.decode(record["audit"]) for record in records]
    return [(event["actor"]["id"], event["details"]) for event in events]


async def fail_again(desk: Ground, key: str, at: datetime, **values: str) -> Letter:
    """The letter that was sent comes back through the dead queue, as a worker parks it."""
    before = await letter(desk, key)
    trail = {
        parking.LETTER: key, parking.FIRST_FAILED_AT: at.isoformat(), parking.LAST_FAILED_AT: at.isoformat(),
        parking.PARKED_AT: at.isoformat(), **values,
    }  # fmt: skip
    again = msgspec.structs.replace(
        before, headers={**before.headers, **trail}, state=LetterState.OPEN, first_failed_at=at, last_failed_at=at, parked_at=at
    )
    await park(desk, again)
    return await letter(desk, key)


async def test_a_letter_is_sent_again_and_its_use_its_history_and_its_orders_audit_trail_say_so(desk: Ground) -> None:
    order = await placed(desk.pool)
    rule = await ruled(desk)
    original = failed(order)
    (key,) = await park(desk, original)
    assert await fixed(desk) == 1
    row = (await outbox(desk))[-1]
    assert (row.event_id, row.body, row.headers[parking.LETTER]) == (original.message_id, original.body, key)
    assert (await letter(desk, key)).state is LetterState.REPLAYING
    assert await uses(desk) == [(key, 1, "sent")]
    assert await history(desk, key) == [("sent", rule.actor), ("fixed", rule.actor)]
    ((who, what),) = await audited(desk, order.order_id)
    assert who == rule.actor == f"rule:{rule.rule_id}"
    assert (what["rule"], what["rule_id"], what["letter_id"], what["outcome"]) == ("mend", rule.rule_id, key, "sent")
    assert await fixed(desk) == 0
    (listed,) = await rules.list_rules(desk.pool, now=now())
    assert listed.used_last_hour == 1
    assert listed.last_used_at is not None


async def test_a_letter_that_a_rule_sent_again_ends_resolved_as_fixed(desk: Ground) -> None:
    await ruled(desk)
    fakes = FakePorts()
    (key,) = await park(desk, failed(await placed(desk.pool)))
    async with going_on(desk, fakes):
        await fixed(desk)

        async def resolved() -> None:
            assert (await letter(desk, key)).state is LetterState.RESOLVED

        await eventually(resolved)
    assert (await letter(desk, key)).resolution == "fixed"
    assert len(fakes.messages.named("sms")) == 1


async def test_a_body_is_patched_with_its_lineage_kept_and_the_worker_reads_the_patched_one(desk: Ground) -> None:
    rule = await ruled(
        desk,
        {"do": "patch", "patch": {"template": "payment_failed"}},
        {**SMS, "body": [{"path": "$.template", "equals": "payment_faild"}]},
    )
    fakes = FakePorts()
    order = await placed(desk.pool)
    wrong, right = failed(order, template="payment_faild"), failed(order, number=1)
    key, other = await park(desk, wrong, right)
    assert await fixed(desk) == 1
    row = (await outbox(desk))[-1]
    assert msgspec.json.decode(row.body)["template"] == "payment_failed"
    assert (await letter(desk, key)).body == wrong.body
    (edit,) = await desk.pool.fetch("SELECT * FROM letter_edits")
    assert (edit["letter_id"], edit["state"], edit["proposed_by"], edit["body"]) == (key, "sent", rule.actor, row.body)
    assert "payment_faild" in edit["diff"]
    assert [who for who, _ in await audited(desk, order.order_id)] == [rule.actor]
    assert (await letter(desk, other)).state is LetterState.OPEN
    async with going_on(desk, fakes):

        async def resolved() -> None:
            assert (await letter(desk, key)).state is LetterState.RESOLVED

        await eventually(resolved)
    assert len(fakes.messages.named("sms")) == 1


async def test_a_patch_that_no_worker_could_read_is_refused_once_with_the_reason_and_sends_nothing(desk: Ground) -> None:
    await ruled(desk, {"do": "patch", "patch": {"template": "refunded"}}, {**SMS, "max_generation": 1})
    (key,) = await park(desk, failed(await placed(desk.pool), body=b'{"template": "x"}'))
    already = len(await outbox(desk))
    assert await fixed(desk) == 1
    assert await fixed(desk) == 0
    ((_, _, outcome),) = await uses(desk)
    assert outcome.startswith("refused: ")
    assert (await letter(desk, key)).state is LetterState.OPEN
    assert len(await outbox(desk)) == already
    assert [action for action, _ in await history(desk, key)] == ["rule_refused"]


async def test_a_delay_is_a_snooze_that_everybody_sees_and_ends_in_a_replay(desk: Ground) -> None:
    rule, at = await ruled(desk, {"do": "delay", "for_s": 900}), now()
    order = await placed(desk.pool)
    (key,) = await park(desk, failed(order, failed_at=at))
    already = len(await outbox(desk))
    assert await fixed(desk) == 1
    snoozed = await letter(desk, key)
    assert (snoozed.state, snoozed.snoozed_until) == (LetterState.OPEN, at + timedelta(minutes=15))
    assert await uses(desk) == [(key, 1, "delayed")]
    assert await fixed(desk, at + timedelta(minutes=14)) == 0
    assert len(await outbox(desk)) == already
    assert await fixed(desk, at + timedelta(minutes=15)) == 1
    assert (await letter(desk, key)).state is LetterState.REPLAYING
    assert await uses(desk) == [(key, 1, "sent")]
    assert [what["outcome"] for _, what in await audited(desk, order.order_id)] == ["delayed", "sent"]
    assert await history(desk, key) == [
        ("snoozed", rule.actor), ("fixed", rule.actor), ("sent", rule.actor), ("fixed", rule.actor),
    ]  # fmt: skip


async def test_a_letter_that_was_parked_long_ago_waits_no_more(desk: Ground) -> None:
    await ruled(desk, {"do": "delay", "for_s": 900})
    (key,) = await park(desk, failed(await placed(desk.pool), failed_at=now() - HOUR))
    assert await fixed(desk) == 1
    assert (await letter(desk, key)).state is LetterState.REPLAYING


async def test_a_rule_that_is_switched_off_while_a_letter_waits_for_it_does_nothing_more(desk: Ground) -> None:
    rule, at = await ruled(desk, {"do": "delay", "for_s": 900}), now()
    (key,) = await park(desk, failed(await placed(desk.pool), failed_at=at))
    await fixed(desk)
    await rules.switch(desk.pool, rule.name, enabled=False, version=rule.version, actor=ANN, now=now())
    assert await fixed(desk, at + HOUR) == 0
    assert (await letter(desk, key)).state is LetterState.OPEN


async def test_somebody_who_wakes_a_letter_does_not_hurry_its_rule_and_a_longer_snooze_is_kept(desk: Ground) -> None:
    await ruled(desk, {"do": "discard", "reason": "too late", "after_s": 3_600}, SMS)
    at = now()
    (key,) = await park(desk, failed(await placed(desk.pool), failed_at=at))
    await fixed(desk)
    await actions.snooze(desk.pool, key, until=None, actor=ANN, version=None, now=now())
    assert await fixed(desk, at + timedelta(minutes=30)) == 0
    assert (await letter(desk, key)).snoozed_until is None
    await actions.snooze(desk.pool, key, until=at + 3 * HOUR, actor=ANN, version=None, now=now())
    assert await fixed(desk, at + 2 * HOUR) == 0
    assert await fixed(desk, at + 3 * HOUR) == 1
    assert (await letter(desk, key)).state is LetterState.DISCARDED


async def test_a_letter_is_discarded_with_the_rules_reason(desk: Ground) -> None:
    rule = await ruled(desk, {"do": "discard", "reason": "nobody reads it"}, SMS)
    order = await placed(desk.pool)
    (key,) = await park(desk, failed(order))
    assert await fixed(desk) == 1
    gone = await letter(desk, key)
    assert (gone.state, gone.resolution, gone.resolved_by) == (LetterState.DISCARDED, "nobody reads it", rule.actor)
    assert await uses(desk) == [(key, 1, "discarded")]
    assert [who for who, _ in await audited(desk, order.order_id)] == [rule.actor]


async def test_an_order_is_compensated_by_its_own_cancellation_and_the_letter_has_its_answer(desk: Ground) -> None:
    rule = await ruled(desk, {"do": "compensate", "reason": "failed_message"}, {"types": ["restaurant.cancel"]})
    order = await walked(desk.pool, State.RESTAURANT_ACCEPTED)
    (key,) = await park(desk, failed(order, Command.RESTAURANT_CANCEL, restaurant_id=order.restaurant_id, reason="x"))
    await desk.pool.execute("DELETE FROM outbox")
    assert await fixed(desk) == 1
    (row,) = [row for row in await outbox(desk) if row.type == Command.ORDER_CANCEL]
    assert msgspec.json.decode(row.body)["reason"] == "failed_message"
    ended = await letter(desk, key)
    assert (ended.state, ended.resolution, ended.resolved_by) == (LetterState.RESOLVED, "compensated", rule.actor)
    async with going_on(desk, FakePorts()):

        async def cancelled() -> None:
            assert (await desk.order(order.order_id)).state is State.CANCELLED

        await eventually(cancelled)
    assert (await desk.order(order.order_id)).reason == "failed_message"


async def test_an_order_that_has_ended_is_not_cancelled_again(desk: Ground) -> None:
    await ruled(desk, {"do": "compensate", "reason": "failed_message"}, {"types": ["restaurant.cancel"]})
    order = await walked(desk.pool, State.DELIVERED)
    (key,) = await park(desk, failed(order, Command.RESTAURANT_CANCEL, restaurant_id=order.restaurant_id, reason="x"))
    assert await fixed(desk) == 1
    assert await uses(desk) == [(key, 1, "refused: not-compensable")]
    assert (await letter(desk, key)).state is LetterState.OPEN
    assert await audited(desk, order.order_id) == []


async def test_what_comes_too_late_is_not_sent(desk: Ground) -> None:
    await ruled(desk)
    order = await walked(desk.pool, State.CANCELLED)
    (key,) = await park(desk, failed(order, Command.PAYMENT_CHARGE))
    assert await fixed(desk) == 1
    assert await uses(desk) == [(key, 1, "refused: superseded")]
    assert (await letter(desk, key)).state is LetterState.OPEN


async def test_a_letter_whose_message_was_done_meanwhile_is_closed_and_not_sent(desk: Ground) -> None:
    await ruled(desk)
    order = await placed(desk.pool)
    original = failed(order)
    (key,) = await park(desk, original)
    await finish(desk.pool, order.order_id, original.message_id, now())
    await fixed(desk)
    assert (await letter(desk, key)).state is LetterState.RESOLVED
    assert await desk.pool.fetchval("SELECT count(*) FROM outbox WHERE headers ? 'rushline-letter'") == 0


async def test_poison_that_nobody_can_read_is_not_sent_even_by_a_rule_about_poison(desk: Ground) -> None:
    await ruled(desk, {"do": "replay"}, {"failure_types": ["invalid_message"], "max_generation": 3})
    (key,) = await park(desk, failed(await placed(desk.pool), body=b"\x00", poison=True))
    assert await fixed(desk) == 1
    assert await uses(desk) == [(key, 1, "refused: unreadable")]
    assert (await letter(desk, key)).state is LetterState.OPEN


async def test_a_rule_is_used_at_most_three_times_on_a_letter_that_goes_on_failing(desk: Ground) -> None:
    await ruled(desk)
    at = now()
    (key,) = await park(desk, failed(await placed(desk.pool), failed_at=at))
    for generation in range(1, 6):
        assert await fixed(desk, at + timedelta(minutes=generation)) == (1 if generation <= 3 else 0)
        assert (await letter(desk, key)).generation == min(generation, 4)
        if generation <= 3:
            again = await fail_again(desk, key, at + timedelta(minutes=generation, seconds=1))
            assert (again.state, again.generation) == (LetterState.OPEN, generation + 1)
    assert [(generation, outcome) for _, generation, outcome in await uses(desk)] == [(1, "sent"), (2, "sent"), (3, "sent")]


async def test_a_bound_on_generations_ends_a_rule_sooner(desk: Ground) -> None:
    await ruled(desk, match={**AWAY, "max_generation": 1})
    at = now()
    (key,) = await park(desk, failed(await placed(desk.pool), failed_at=at))
    assert await fixed(desk) == 1
    await fail_again(desk, key, at + timedelta(minutes=1))
    assert await fixed(desk, at + timedelta(minutes=2)) == 0


async def test_the_first_rule_by_name_takes_a_letter_and_the_next_one_what_that_has_used_up(desk: Ground) -> None:
    await ruled(desk, {"do": "discard", "reason": "enough"}, SMS, name="b then")
    await ruled(desk, name="a first", per_letter=1)
    at = now()
    (key,) = await park(desk, failed(await placed(desk.pool), failed_at=at))
    assert await fixed(desk) == 1
    assert (await letter(desk, key)).state is LetterState.REPLAYING
    await fail_again(desk, key, at + timedelta(minutes=1))
    assert await fixed(desk, at + timedelta(minutes=2)) == 1
    assert (await letter(desk, key)).resolution == "enough"


async def test_a_limit_is_kept_and_who_waits_is_taken_in_turn(desk: Ground) -> None:
    rule, at = await ruled(desk, per_hour=4), now()
    keys = []
    for number in range(10):
        keys += await park(desk, failed(await placed(desk.pool), number=number, failed_at=at - timedelta(seconds=20 - number)))
    assert await fixed(desk, at) == 4
    waiting = await desk.pool.fetch("SELECT letter_id, due_at, rule_id FROM letter_rule_queue ORDER BY due_at")
    assert [record["letter_id"] for record in waiting] == keys[4:]
    assert {record["rule_id"] for record in waiting} == {rule.rule_id}
    assert await fixed(desk, at + timedelta(minutes=59)) == 0
    # One that comes now goes behind those who wait, though there is room for it by then.
    (late,) = await park(desk, failed(await placed(desk.pool), failed_at=at + timedelta(minutes=59)))
    total = 0
    for minute in range(60, 60 * 4, 5):
        total += await fixed(desk, at + timedelta(minutes=minute))
        times = await desk.pool.fetch("SELECT at FROM letter_rule_uses ORDER BY at")
        edge = at + timedelta(minutes=minute) - HOUR
        assert sum(record["at"] > edge for record in times) <= 4
    assert total == 7
    order = [key for key, _, _ in await uses(desk)]
    assert order[-1] == late
    assert sorted(order) == sorted([*keys, late])


async def test_a_higher_limit_counts_at_once_for_those_who_wait(desk: Ground) -> None:
    rule, at = await ruled(desk, per_hour=1), now()
    for number in range(3):
        await park(desk, failed(await placed(desk.pool), number=number, failed_at=at))
    assert await fixed(desk, at) == 1
    wider = msgspec.structs.replace(rule, per_hour=10)
    await rules.put(desk.pool, wider, actor=ANN, now=now(), version=rule.version)
    assert await fixed(desk, now()) == 2


async def test_a_rule_that_is_off_or_has_expired_does_nothing(desk: Ground) -> None:
    await ruled(desk, name="off", enabled=False)
    await ruled(desk, name="old", expires_at=(now() + timedelta(minutes=5)).isoformat())
    (key,) = await park(desk, failed(await placed(desk.pool)))
    assert await fixed(desk, now() + timedelta(minutes=5)) == 0
    assert (await letter(desk, key)).state is LetterState.OPEN
    await rules.switch(desk.pool, "off", enabled=True, version=1, actor=ANN, now=now())
    assert await fixed(desk, now() + timedelta(minutes=6)) == 1


async def test_a_snoozed_letter_and_a_snoozed_group_are_left_alone_until_they_wake(desk: Ground) -> None:
    await ruled(desk)
    at = now()
    one, two = await park(desk, failed(await placed(desk.pool)), failed(await placed(desk.pool), Command.RESTAURANT_CANCEL,
                                                                        restaurant_id="rst_1", reason="x"))  # fmt: skip
    await actions.snooze(desk.pool, one, until=at + HOUR, actor=ANN, version=None, now=at)
    group = (await letter(desk, two)).fingerprint
    await actions.snooze_group(desk.pool, group, until=at + 2 * HOUR, actor=ANN, now=at)
    assert await fixed(desk, now()) == 0
    assert await fixed(desk, at + HOUR) == 1
    assert (await letter(desk, one)).state is LetterState.REPLAYING
    await actions.snooze_group(desk.pool, group, until=None, actor=ANN, now=now())
    assert await fixed(desk, at + HOUR) == 1
    assert (await letter(desk, two)).state is LetterState.REPLAYING


async def test_a_new_rule_looks_at_letters_that_were_there_before_it(desk: Ground) -> None:
    keys = [(await park(desk, failed(await placed(desk.pool), number=number)))[0] for number in range(3)]
    assert await fixed(desk) == 0
    assert await desk.pool.fetchval("SELECT count(*) FROM letter_rule_queue") == 0
    await ruled(desk)
    assert await fixed(desk) == 3
    assert {(await letter(desk, key)).state for key in keys} == {LetterState.REPLAYING}


async def test_two_keepers_at_once_use_a_rule_once_and_keep_its_limit(desk: Ground) -> None:
    await ruled(desk, per_hour=5)
    for number in range(12):
        await park(desk, failed(await placed(desk.pool), number=number))
    at = now()
    await asyncio.gather(*(step(desk.pool, desk.settings, at) for _ in range(4)))
    await fixed(desk, at)
    assert len(await uses(desk)) == 5
    assert await desk.pool.fetchval("SELECT count(*) FROM outbox WHERE headers ? 'rushline-letter'") == 5


async def test_a_person_who_is_faster_is_right_and_a_person_who_is_slower_is_told(desk: Ground) -> None:
    await ruled(desk)
    one, two = await park(desk, failed(await placed(desk.pool)), failed(await placed(desk.pool)))
    await actions.discard(desk.pool, one, reason="I saw to it", actor=ANN, version=1, now=now())
    await fixed(desk)
    assert (await letter(desk, one)).state is LetterState.DISCARDED
    assert [key for key, _, _ in await uses(desk)] == [two]
    with pytest.raises(actions.LetterNotOpen):
        await actions.discard(desk.pool, two, reason="late", actor=ANN, version=1, now=now())


async def test_a_failure_of_another_kind_is_left_alone(desk: Ground) -> None:
    await ruled(desk)
    (key,) = await park(
        desk, failed(await placed(desk.pool), headers={parking.FAILURE: FailureType.PAYMENT_DECLINED.value})
    )  # fmt: skip
    assert await fixed(desk) == 0
    assert (await letter(desk, key)).state is LetterState.OPEN
    assert await desk.pool.fetchval("SELECT count(*) FROM letter_rule_queue") == 0


async def test_the_shipped_library_mends_what_an_outage_left_behind_with_nobody_at_the_desk(clean: Ground) -> None:
    """The keeper as it runs, at 600 times the speed of business: a quarter of an hour takes a second and a half."""
    fakes, stop = FakePorts(), asyncio.Event()
    async with connect(clean.settings.migrate_url, service="tests") as owner:
        await owner.execute("TRUNCATE letter_rules, letter_rule_uses, letter_rule_queue")
    keys = await park(clean, *[failed(await placed(clean.pool), number=number) for number in range(5)])
    async with going_on(clean, fakes):
        keeping = asyncio.create_task(Keeper(clean.pool, clean.settings).run(stop))

        async def resolved() -> None:
            letters = [await letter(clean, key) for key in keys]
            assert [(each.state, each.resolution) for each in letters] == [(LetterState.RESOLVED, "fixed")] * 5

        try:
            await eventually(resolved)
        finally:
            stop.set()
            await keeping
            await clean.pool.execute("UPDATE letter_rules SET enabled = false")
    assert {outcome for _, _, outcome in await uses(clean)} == {"sent"}
    assert len(fakes.messages.named("sms")) == 5
