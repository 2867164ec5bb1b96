"""Many letters, sent again: a canary first, throttled, stopped by the first failure, safe from being swept along or sent twice."""

import asyncio
from datetime import datetime, timedelta

import pytest

from orders import parking
from orders.errors import Invalid
from orders.names import Command
from outbox.alerts import open_alerts
from outbox.letters import replays
from outbox.letters.model import Letter, LetterFilter, LetterState, NothingMatches
from outbox.letters.replays import NoSuchReplay, Replay, ReplayState, ReplayStateRefused
from outbox.letters.sending import replay_one, settle
from outbox.letters.stepping import STOPPED
from tests.fake_ports import FakePorts
from tests.integration.replays_ground import (
    ANN,
    BOB,
    NumberBarred,
    clean,
    everything,
    failed,
    going_on,
    letter,
    now,
    outbox,
    park,
    stepped_until,
)
from tests.integration.workers_ground import Ground, ground
from tests.making import placed

__all__ = ["clean", "ground"]

ALL = LetterFilter()


async def _letters(clean: Ground, count: int) -> list[Letter]:
    """So many of one order, the oldest failure first."""
    order, at = await placed(clean.pool), now() - timedelta(hours=1)
    letters = [failed(order, number=n + 1, failed_at=at + timedelta(seconds=n)) for n in range(count)]
    await park(clean, *letters)
    return letters


async def _create(clean: Ground, wanted: LetterFilter = ALL, **values: object) -> Replay:
    given = {"reason": "the provider is back", "actor": ANN, "now": now(), **values}
    return await replays.create(clean.pool, wanted, **given)  # type: ignore[arg-type]


async def _sent(clean: Ground) -> list[str]:
    """The letters whose messages wait for the relay, in their order."""
    return [row.headers[parking.LETTER] for row in await outbox(clean) if parking.LETTER in row.headers]


async def _settled(clean: Ground, keys: list[str]) -> None:
    for key in keys:
        await settle(clean.pool, key, outcome="done", now=now())


async def _failed_again(clean: Ground, one: Letter, replay_id: str) -> None:
    """It was parked again by a worker."""
    order_headers = {**one.headers, parking.LETTER: one.letter_id, parking.REPLAY: replay_id}
    later = now()
    times = dict.fromkeys((parking.FIRST_FAILED_AT, parking.LAST_FAILED_AT, parking.PARKED_AT), later.isoformat())
    headers = {**order_headers, **times}
    changed = {"headers": headers, "parked_at": later, "first_failed_at": later, "last_failed_at": later}
    await park(clean, type(one)(**{name: changed.get(name, getattr(one, name)) for name in one.__struct_fields__}))


async def test_a_canary_goes_first_then_five_then_the_rest_oldest_failure_first(clean: Ground) -> None:
    letters = [each.letter_id for each in await _letters(clean, 20)]
    replay = await _create(clean)
    assert [stage.size for stage in replay.stages] == [1, 5, 14]
    for expected in (1, 6, 20):
        for _ in range(3):  # more steps change nothing while the stage has not ended
            await replays.step(clean.pool, now())
        assert await _sent(clean) == letters[:expected]
        await _settled(clean, letters[:expected])
    await replays.step(clean.pool, now())
    ended = await replays.progress(clean.pool, replay.replay_id)
    assert (ended.state, ended.done, ended.waiting, ended.sent) == (ReplayState.DONE, 20, 0, 0)
    assert [stage.done for stage in ended.stages] == [1, 5, 14]
    assert await replays.step(clean.pool, now()) == 0


async def test_it_stops_at_the_first_failure_and_goes_on_only_when_somebody_says_so(clean: Ground) -> None:
    letters = await _letters(clean, 20)
    replay = await _create(clean)
    await replays.step(clean.pool, now())
    await _failed_again(clean, letters[0], replay.replay_id)
    assert (await letter(clean, letters[0].letter_id)).generation == 2
    await replays.step(clean.pool, now())
    stopped = await replays.progress(clean.pool, replay.replay_id)
    assert (stopped.state, stopped.failed, stopped.waiting) == (ReplayState.STOPPED, 1, 19)
    assert letters[0].letter_id in (stopped.why or "")
    assert [alert.subject for alert in await open_alerts(clean.pool) if alert.kind == STOPPED] == [replay.replay_id]
    await replays.step(clean.pool, now())
    assert len(await _sent(clean)) == 1
    await replays.resume(clean.pool, replay.replay_id, actor=BOB, now=now())
    assert STOPPED not in {alert.kind for alert in await open_alerts(clean.pool)}
    await replays.step(clean.pool, now())
    assert len(await _sent(clean)) == 6
    await _failed_again(clean, letters[2], replay.replay_id)
    await replays.step(clean.pool, now())
    assert (await replays.progress(clean.pool, replay.replay_id)).state is ReplayState.STOPPED


async def test_who_begins_again_after_a_stop_is_not_called_for_the_one_that_stopped(clean: Ground) -> None:
    letters = await _letters(clean, 3)
    replay = await _create(clean)
    await replays.step(clean.pool, now())
    await _failed_again(clean, letters[0], replay.replay_id)
    await replays.step(clean.pool, now())
    await _create(clean, LetterFilter(type=letters[0].type), dry_run=True)
    await _create(clean, LetterFilter(message_id=letters[2].message_id))
    assert [alert.subject for alert in await open_alerts(clean.pool)] == [replay.replay_id]
    await _create(clean)
    assert await open_alerts(clean.pool) == []


async def test_a_failure_among_the_rest_stops_what_was_not_sent_yet(clean: Ground) -> None:
    letters = await _letters(clean, 10)
    replay = await _create(clean, stages=(), per_second=1)
    at = now()
    await replays.step(clean.pool, at)
    await replays.step(clean.pool, at + timedelta(seconds=1))
    await _failed_again(clean, letters[0], replay.replay_id)
    await replays.step(clean.pool, at + timedelta(seconds=2))
    stopped = await replays.progress(clean.pool, replay.replay_id)
    assert (stopped.state, stopped.sent, stopped.failed, stopped.waiting) == (ReplayState.STOPPED, 1, 1, 8)


async def test_what_ends_with_a_failure_is_done_and_says_which(clean: Ground) -> None:
    letters = await _letters(clean, 2)
    replay = await _create(clean, stages=())
    await replays.step(clean.pool, now())
    await _settled(clean, [letters[0].letter_id])
    await _failed_again(clean, letters[1], replay.replay_id)
    await replays.step(clean.pool, now())
    ended = await replays.progress(clean.pool, replay.replay_id)
    assert (ended.state, ended.done, ended.failed) == (ReplayState.DONE, 1, 1)
    assert letters[1].letter_id in (ended.why or "")


async def test_a_replay_that_cannot_go_on_stops_and_others_go_on(clean: Ground) -> None:
    broken, *_ = await _letters(clean, 1)
    first = await _create(clean)
    await clean.pool.execute("UPDATE dead_letters SET headers = '\"no table\"' WHERE letter_id = $1", broken.letter_id)
    letters = await _letters(clean, 1)
    second = await _create(clean, LetterFilter(message_id=letters[0].message_id))
    await replays.step(clean.pool, now())
    stopped = await replays.progress(clean.pool, first.replay_id)
    assert (stopped.state, stopped.waiting) == (ReplayState.STOPPED, 1)
    assert "cannot be sent" in (stopped.why or "")
    assert (await replays.progress(clean.pool, second.replay_id)).sent == 1


async def test_letters_that_failed_after_the_cut_off_are_not_swept_in(clean: Ground) -> None:
    letters = await _letters(clean, 6)
    replay = await _create(clean, cutoff=letters[3].last_failed_at, stages=())
    assert replay.total == 4
    await _letters(clean, 2)  # these fail while it is under way
    await replays.step(clean.pool, now())
    assert await _sent(clean) == [each.letter_id for each in letters[:4]]


async def test_a_letter_that_failed_again_after_the_cut_off_is_skipped(clean: Ground) -> None:
    letters = await _letters(clean, 2)
    replay = await _create(clean, stages=())
    await replay_one(clean.pool, letters[1].letter_id, actor=BOB, now=now())
    await _failed_again(clean, letters[1], "rpl_other")
    await replays.step(clean.pool, now())
    (skipped,) = await replays.items(clean.pool, replay.replay_id, state="skipped")
    assert (skipped.letter_id, skipped.why) == (letters[1].letter_id, "failed-since")


async def test_a_pace_is_kept_by_the_clock_in_the_database(clean: Ground) -> None:
    await _letters(clean, 100)
    at = now()
    replay = await _create(clean, stages=(), per_second=10, now=at)
    sent = []
    for tick in range(31):  # three seconds in tenths
        await replays.step(clean.pool, at + timedelta(milliseconds=100 * tick))
        sent.append(len(await _sent(clean)))
    assert sent == list(range(1, 32))
    await replays.step(clean.pool, at + timedelta(minutes=10))  # nobody stepped for long: one second's worth at once
    assert len(await _sent(clean)) == 41
    assert (await replays.progress(clean.pool, replay.replay_id)).seconds_left == 5.9


async def test_two_keepers_at_once_send_each_letter_once(clean: Ground) -> None:
    letters = await _letters(clean, 60)
    await _create(clean, stages=())
    for _ in range(4):
        await asyncio.gather(*(replays.step(clean.pool, now()) for _ in range(4)))
    assert sorted(await _sent(clean)) == sorted(each.letter_id for each in letters)


async def test_two_replays_of_one_letter_send_it_once(clean: Ground) -> None:
    letters = await _letters(clean, 10)
    first, second = await _create(clean, stages=()), await _create(clean, stages=(), actor=BOB)
    await replays.step(clean.pool, now())
    assert len(await _sent(clean)) == len(letters)
    one, two = [await replays.progress(clean.pool, each.replay_id) for each in (first, second)]
    assert sorted([(one.sent, one.skipped), (two.sent, two.skipped)]) == [(0, 10), (10, 0)]
    skipped = one if one.skipped else two
    assert {item.why for item in await replays.items(clean.pool, skipped.replay_id)} == {"replaying"}


async def test_a_letter_that_somebody_settled_meanwhile_is_skipped_and_another_is_the_canary(clean: Ground) -> None:
    letters = await _letters(clean, 10)
    replay = await _create(clean)
    await clean.pool.execute(
        """UPDATE dead_letters SET state = 'discarded', resolution = 'x', resolved_by = 'bob', resolved_at = now()
           WHERE letter_id = $1""",
        letters[0].letter_id,
    )
    for _ in range(3):
        await replays.step(clean.pool, now())
    assert await _sent(clean) == [letters[1].letter_id]
    shown = await replays.progress(clean.pool, replay.replay_id)
    assert (shown.sent, shown.skipped, shown.waiting) == (1, 1, 8)


async def test_pausing_holds_it_and_cancelling_ends_it(clean: Ground) -> None:
    letters = await _letters(clean, 10)
    replay = await _create(clean)
    key = replay.replay_id
    await replays.step(clean.pool, now())
    assert (await replays.pause(clean.pool, key, actor=BOB, now=now())).why == "paused by bob"
    await _settled(clean, [letters[0].letter_id])
    await replays.step(clean.pool, now())
    assert len(await _sent(clean)) == 1
    with pytest.raises(ReplayStateRefused, match="paused"):
        await replays.pause(clean.pool, key, actor=BOB, now=now())
    await replays.resume(clean.pool, key, actor=ANN, now=now())
    await replays.step(clean.pool, now())
    assert len(await _sent(clean)) == 6
    cancelled = await replays.cancel(clean.pool, key, actor=ANN, now=now())
    assert (cancelled.state, cancelled.sent, cancelled.done, cancelled.skipped) == (ReplayState.CANCELLED, 5, 1, 4)
    before = await everything(clean)
    for refused in (replays.resume, replays.cancel, replays.pause):
        with pytest.raises(ReplayStateRefused, match="cancelled"):
            await refused(clean.pool, key, actor=BOB, now=now())
    with pytest.raises(NoSuchReplay):
        await replays.cancel(clean.pool, "rpl_none", actor=BOB, now=now())
    await replays.step(clean.pool, now())
    assert await everything(clean) == before


async def test_a_filter_that_matches_nothing_is_refused_and_nothing_changes(clean: Ground) -> None:
    await _letters(clean, 2)
    before = await everything(clean)
    with pytest.raises(NothingMatches):
        await _create(clean, LetterFilter(type="payment.charge"))
    with pytest.raises(NothingMatches):
        await _create(clean, cutoff=now() - timedelta(days=1))
    assert await everything(clean) == before


@pytest.mark.parametrize(
    ("field", "wanted", "values"),
    [
        ("reason", ALL, {"reason": "  "}),
        ("reason", ALL, {"reason": "x" * 501}),
        ("reason", ALL, {"reason": "a\x00b"}),
        ("cutoff", ALL, {"cutoff": datetime(2026, 1, 1)}),  # noqa: DTZ001  # the point
        ("filter.state", LetterFilter(state=LetterState.DISCARDED), {}),
        ("stages", ALL, {"stages": (1, 0)}),
        ("per_second", ALL, {"per_second": 0}),
    ],
)
async def test_what_makes_no_replay_is_refused_by_the_name_of_its_field(
    clean: Ground, field: str, wanted: LetterFilter, values: dict[str, object]
) -> None:
    await _letters(clean, 2)
    before = await everything(clean)
    with pytest.raises(Invalid) as refused:
        await _create(clean, wanted, **values)
    assert refused.value.field == field
    assert await everything(clean) == before


async def test_a_dry_run_says_what_would_be_sent_and_creates_nothing(clean: Ground) -> None:
    await _letters(clean, 7)
    before = await everything(clean)
    rehearsed = await _create(clean, dry_run=True)
    assert (rehearsed.total, [stage.size for stage in rehearsed.stages]) == (7, [1, 5, 1])
    assert await everything(clean) == before


async def test_what_is_snoozed_is_left_alone_unless_its_group_is_asked_for(clean: Ground) -> None:
    letters = await _letters(clean, 3)
    group = letters[0].fingerprint
    await clean.pool.execute(
        "UPDATE dead_letters SET snoozed_until = now() + interval '1 hour' WHERE letter_id = $1", letters[0].letter_id
    )
    assert (await _create(clean, dry_run=True)).total == 2
    await clean.pool.execute("UPDATE letter_groups SET snoozed_until = now() + interval '1 hour'")
    with pytest.raises(NothingMatches, match="3 open letters match the filter, and each is snoozed"):
        await _create(clean)
    with pytest.raises(NothingMatches, match="no open letter"):
        await _create(clean, LetterFilter(consumer="nobody"))
    assert (await _create(clean, LetterFilter(fingerprint=group), dry_run=True)).total == 3


async def test_every_field_of_the_filter_narrows(clean: Ground) -> None:
    letters = await _letters(clean, 3)
    order = await placed(clean.pool)
    await park(clean, odd := failed(order, Command.ORDER_CANCEL, reason="fraud"))
    await clean.pool.execute(
        "UPDATE dead_letters SET owner = 'bob', message = 'quite unusual' WHERE letter_id = $1", odd.letter_id
    )
    narrowing = [
        {"fingerprint": odd.fingerprint}, {"consumer": "orders"}, {"type": "order.cancel"}, {"order_id": order.order_id},
        {"message_id": odd.message_id}, {"owner": "bob"}, {"words": "unusual"}, {"failed_from": odd.last_failed_at},
        {"state": LetterState.OPEN, "type": "order.cancel"},
    ]  # fmt: skip
    for fields in narrowing:
        assert (await _create(clean, LetterFilter(**fields), dry_run=True)).total == 1, fields  # type: ignore[arg-type]
    assert (await _create(clean, LetterFilter(failed_before=letters[1].last_failed_at), dry_run=True)).total == 1
    assert (await _create(clean, LetterFilter(failure_type=odd.failure_type, category=odd.category), dry_run=True)).total == 4


async def test_replays_are_listed_newest_first(clean: Ground) -> None:
    await _letters(clean, 2)
    at = now()
    made = [await _create(clean, now=at + timedelta(seconds=n)) for n in range(3)]
    listed = await replays.list_replays(clean.pool, limit=2)
    assert [each.replay_id for each in listed] == [made[2].replay_id, made[1].replay_id]
    last = listed[-1]
    (rest,) = await replays.list_replays(clean.pool, before=(last.created_at, last.replay_id))
    assert rest.replay_id == made[0].replay_id
    await replays.cancel(clean.pool, made[1].replay_id, actor=ANN, now=now())
    (gone,) = await replays.list_replays(clean.pool, state=ReplayState.CANCELLED)
    assert gone.replay_id == made[1].replay_id


async def test_with_real_workers_a_canary_that_fails_stops_it_and_after_the_cure_all_ends_well(clean: Ground) -> None:
    fakes = FakePorts()
    fakes.messages.always["sms"] = NumberBarred("still barred")
    await _letters(clean, 30)
    replay = await _create(clean)
    async with going_on(clean, fakes):
        stopped = await stepped_until(clean, replay.replay_id, "stopped")
        assert (stopped.failed, stopped.done, stopped.waiting) == (1, 0, 29)
        fakes.messages.always.clear()
        await replays.resume(clean.pool, replay.replay_id, actor=ANN, now=now())
        ended = await stepped_until(clean, replay.replay_id, "done")
        assert (ended.done, ended.failed, ended.skipped) == (29, 1, 0)
        rest = await _create(clean, reason="the one that failed before the cure")
        assert (await stepped_until(clean, rest.replay_id, "done")).done == 1
    assert await clean.pool.fetchval("SELECT array_agg(DISTINCT state) FROM dead_letters") == ["resolved"]
    said = [key for *_, key in fakes.messages.named("sms")]
    assert len(set(said)) == 30
