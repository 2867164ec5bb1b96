"""One letter, sent again: what goes out, what is refused and changes nothing, and how it comes to its end."""

import asyncio
from datetime import timedelta

import pytest

from orders import parking
from orders.names import DEAD_LETTERS, PRIORITY_RETURNED, Command, State
from outbox.letters import actions, lost, set_aside
from outbox.letters.model import (
    LetterMoved,
    LetterNotOpen,
    LetterState,
    LetterSuperseded,
    NoSuchLetter,
    NotReplayable,
    Source,
    letter_id,
)
from outbox.letters.sending import replay_one, settle
from outbox.sql import SET_ASIDE
from outbox.transition import enqueue
from tests.fake_ports import FakePorts
from tests.integration.replays_ground import (
    ANN,
    BOB,
    NumberBarred,
    clean,
    everything,
    failed,
    going_on,
    history,
    letter,
    now,
    open_in_groups,
    outbox,
    park,
)
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually, fact_row, placed, walked

__all__ = ["clean", "ground"]


async def test_what_goes_out_is_the_message_as_it_was_without_its_trail_of_failures(clean: Ground) -> None:
    original = failed(await placed(clean.pool), priority=1)
    (key,) = await park(clean, original)
    sent = await replay_one(clean.pool, key, actor=ANN, version=1, now=now())
    assert (sent.state, sent.version) == (LetterState.REPLAYING, 2)
    row = (await outbox(clean))[-1]
    assert (row.event_id, row.type, row.destination) == (original.message_id, original.type, original.routing_key)
    assert (row.body, row.position, row.schema_version) == (original.body, original.position, original.schema_version)
    assert row.priority == PRIORITY_RETURNED
    trail = {name for name in row.headers if name.startswith(parking.PREFIX) or name == parking.PARKED_AT}
    assert trail == {parking.LETTER}
    assert row.headers[parking.LETTER] == key
    kept = {name: value for name, value in original.headers.items() if not name.startswith(parking.PREFIX)}
    assert kept.items() <= row.headers.items()
    assert "cloudEvents_time" in kept
    assert await history(clean, key) == [("sent", ANN)]
    assert await open_in_groups(clean) == 1


async def test_an_urgent_message_stays_urgent(clean: Ground) -> None:
    order = await walked(clean.pool, State.CANCELLED)
    (key,) = await park(clean, failed(order, Command.PAYMENT_REFUND, reason="cancelled", number=7))
    await replay_one(clean.pool, key, actor=ANN, now=now())
    assert (await outbox(clean))[-1].priority == 4


async def test_a_letter_that_was_replayed_ends_resolved_and_is_done_once(clean: Ground) -> None:
    fakes = FakePorts()
    (key,) = await park(clean, failed(await placed(clean.pool)))
    async with going_on(clean, fakes):
        await replay_one(clean.pool, key, actor=ANN, now=now())

        async def resolved() -> None:
            assert (await letter(clean, key)).state is LetterState.RESOLVED

        await eventually(resolved)
    ended = await letter(clean, key)
    assert (ended.resolution, ended.resolved_by) == ("replayed", ANN)
    assert len(fakes.messages.named("sms")) == 1
    assert await open_in_groups(clean) == 0
    with pytest.raises(LetterNotOpen, match="resolved"):
        await replay_one(clean.pool, key, actor=ANN, now=now())


async def test_a_letter_whose_row_was_sent_twice_is_done_once(clean: Ground) -> None:
    fakes = FakePorts()
    (key,) = await park(clean, failed(await placed(clean.pool)))
    await replay_one(clean.pool, key, actor=ANN, now=now())
    again = [row for row in await outbox(clean) if row.headers.get(parking.LETTER) == key]
    await enqueue(clean.pool, again)
    async with going_on(clean, fakes):

        async def resolved() -> None:
            assert (await letter(clean, key)).state is LetterState.RESOLVED
            assert await outbox(clean) == []

        await eventually(resolved)
    assert len(fakes.messages.named("sms")) == 1


async def test_a_letter_that_fails_again_is_the_same_letter_and_open_again(clean: Ground) -> None:
    fakes = FakePorts()
    fakes.messages.always["sms"] = NumberBarred("still barred")
    (key,) = await park(clean, failed(await placed(clean.pool)))
    async with going_on(clean, fakes):
        await replay_one(clean.pool, key, actor=ANN, now=now())

        async def open_again() -> None:
            now_ = await letter(clean, key)
            assert (now_.state, now_.generation) == (LetterState.OPEN, 2)

        await eventually(open_again)
        fakes.messages.always.clear()
        await replay_one(clean.pool, key, actor=BOB, now=now())

        async def resolved() -> None:
            assert (await letter(clean, key)).state is LetterState.RESOLVED

        await eventually(resolved)
    assert (await letter(clean, key)).resolved_by == BOB
    assert await open_in_groups(clean) == 0
    assert await clean.depth(DEAD_LETTERS) == 0


async def test_replaying_twice_is_refused_and_changes_nothing(clean: Ground) -> None:
    (key,) = await park(clean, failed(await placed(clean.pool)))
    await replay_one(clean.pool, key, actor=ANN, now=now())
    before = await everything(clean)
    with pytest.raises(LetterNotOpen, match="under way"):
        await replay_one(clean.pool, key, actor=BOB, now=now())
    assert await everything(clean) == before


async def test_of_two_operators_at_once_one_is_refused(clean: Ground) -> None:
    (key,) = await park(clean, failed(await placed(clean.pool)))
    answers = await asyncio.gather(
        *(replay_one(clean.pool, key, actor=who, version=1, now=now()) for who in (ANN, BOB)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Letter", "LetterMoved"]
    assert len([row for row in await outbox(clean) if parking.LETTER in row.headers]) == 1


async def test_a_letter_that_was_discarded_cannot_be_replayed(clean: Ground) -> None:
    (key,) = await park(clean, failed(await placed(clean.pool)))
    await clean.pool.execute(
        """UPDATE dead_letters SET state = 'discarded', resolution = 'a test', resolved_by = $2, resolved_at = now()
           WHERE letter_id = $1""",
        key, BOB,
    )  # fmt: skip
    before = await everything(clean)
    with pytest.raises(LetterNotOpen, match="discarded by bob: a test"):
        await replay_one(clean.pool, key, actor=ANN, now=now())
    assert await everything(clean) == before


async def test_a_letter_that_has_moved_or_is_not_there_is_refused(clean: Ground) -> None:
    (key,) = await park(clean, failed(await placed(clean.pool)))
    before = await everything(clean)
    with pytest.raises(LetterMoved, match="version 1"):
        await replay_one(clean.pool, key, actor=ANN, version=7, now=now())
    with pytest.raises(NoSuchLetter):
        await replay_one(clean.pool, "let_none", actor=ANN, now=now())
    assert await everything(clean) == before


async def test_a_command_that_its_orders_end_has_overtaken_is_refused_as_superseded(clean: Ground) -> None:
    order = await walked(clean.pool, State.PAYMENT_FAILED)
    (key,) = await park(clean, failed(order, Command.PAYMENT_CHARGE))
    before = await everything(clean)
    with pytest.raises(LetterSuperseded, match="gone on without it"):
        await replay_one(clean.pool, key, actor=ANN, now=now())
    assert await everything(clean) == before


async def test_a_command_that_was_done_meanwhile_is_not_sent_but_closed(clean: Ground) -> None:
    (key,) = await park(clean, original := failed(await placed(clean.pool)))
    await clean.pool.execute("INSERT INTO inbox VALUES ($1, now())", original.message_id)
    with pytest.raises(LetterNotOpen, match="done meanwhile"):
        await replay_one(clean.pool, key, actor=ANN, now=now())
    ended = await letter(clean, key)
    assert (ended.state, ended.resolution) == (LetterState.RESOLVED, "done before")
    assert all(parking.LETTER not in row.headers for row in await outbox(clean))
    assert await open_in_groups(clean) == 0


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"\x00\xff", {}, "payment.charge"),
        (None, {"cloudEvents_schemaversion": "9"}, "schema version 9"),
        (None, {"cloudEvents_type": "payment.chargge"}, "there is no command"),
        (None, {"cloudEvents_type": "restaurant.notify"}, "belongs in|restaurant"),
        (b'{"order_id":"17","position":1}', {}, "order_id"),
    ],
)
async def test_poison_that_nobody_can_read_is_not_sent(
    clean: Ground, body: bytes | None, headers: dict[str, str], said: str
) -> None:
    order = await placed(clean.pool)
    (key,) = await park(clean, failed(order, Command.PAYMENT_CHARGE, body=body, poison=True, headers=headers))
    before = await everything(clean)
    with pytest.raises(NotReplayable, match=said):
        await replay_one(clean.pool, key, actor=ANN, now=now())
    assert await everything(clean) == before


async def test_what_killed_its_workers_can_be_sent_again_on_purpose(clean: Ground) -> None:
    (key,) = await park(clean, failed(await placed(clean.pool), poison=True))
    await replay_one(clean.pool, key, actor=ANN, now=now())
    assert (await letter(clean, key)).state is LetterState.REPLAYING


async def test_a_body_that_no_broker_takes_is_not_sent(clean: Ground) -> None:
    (key,) = await park(clean, failed(await placed(clean.pool), body=b" " * 1_000_001, poison=True))
    with pytest.raises(NotReplayable, match="1000000 bytes"):
        await replay_one(clean.pool, key, actor=ANN, now=now())


async def test_a_dry_run_meets_every_refusal_and_writes_nothing(clean: Ground) -> None:
    (key,) = await park(clean, failed(await placed(clean.pool)))
    before = await everything(clean)
    assert (await replay_one(clean.pool, key, actor=ANN, now=now(), dry_run=True)).state is LetterState.REPLAYING
    assert await everything(clean) == before
    with pytest.raises(LetterMoved):
        await replay_one(clean.pool, key, actor=ANN, version=3, now=now(), dry_run=True)


async def test_settling_is_done_once_and_says_what_the_outcome_was(clean: Ground) -> None:
    one, two = await park(clean, failed(await placed(clean.pool)), failed(await placed(clean.pool)))
    for key in (one, two):
        await replay_one(clean.pool, key, actor=ANN, now=now())
    await settle(clean.pool, one, outcome="stale", now=now())
    ended = await letter(clean, one)
    assert (ended.state, ended.resolution, ended.resolved_by) == (LetterState.RESOLVED, "stale", ANN)
    assert await open_in_groups(clean) == 1
    await settle(clean.pool, one, outcome="done", now=now() + timedelta(hours=1))
    assert await letter(clean, one) == ended
    assert await open_in_groups(clean) == 1


async def test_a_message_that_a_broker_lost_is_sent_once_more_with_the_same_identity(clean: Ground) -> None:
    at = now()
    (key,) = await park(clean, original := failed(await placed(clean.pool)))
    await replay_one(clean.pool, key, actor=ANN, now=at)
    await clean.pool.execute("DELETE FROM outbox")  # published, and then its queue was deleted
    assert await lost.step(clean.pool, at + timedelta(minutes=59)) == 0
    assert await lost.step(clean.pool, at + timedelta(minutes=61)) == 1
    (row,) = await outbox(clean)
    assert (row.event_id, row.body, row.headers[parking.LETTER]) == (original.message_id, original.body, key)
    assert (await letter(clean, key)).state is LetterState.REPLAYING
    assert await lost.step(clean.pool, at + timedelta(minutes=62)) == 0
    assert await history(clean, key) == [("sent", ANN), ("sent", ANN)]


async def test_a_row_that_the_relay_set_aside_goes_back_to_its_lane(clean: Ground) -> None:
    row = fact_row("ord_1", 1)
    await enqueue(clean.pool, [row])
    (number,) = await clean.pool.fetch("SELECT id FROM outbox WHERE event_id = $1", row.event_id)
    await clean.pool.execute(SET_ASIDE, "kafka", [number["id"]], ["message-too-large: 2 MB"])
    await set_aside.step(clean.pool, now())
    key = letter_id(row.event_id, "relay-kafka")
    sent = await replay_one(clean.pool, key, actor=ANN, now=now())
    assert (sent.state, sent.source) == (LetterState.REPLAYING, Source.OUTBOX)
    lanes = await clean.pool.fetch("SELECT broker FROM outbox WHERE event_id = $1", row.event_id)
    assert [each["broker"] for each in lanes] == ["kafka"]
    assert await clean.pool.fetchval("SELECT count(*) FROM outbox_set_aside") == 0


async def test_a_held_fact_is_woken_and_one_that_is_held_no_longer_is_closed(clean: Ground) -> None:
    order, read = (
        await placed(clean.pool),
        {parking.TOPIC: "orders.events", parking.PARTITION: "3", "rushline-held-in": "public"},
    )
    held, gone = [failed(order, number=n, headers={**read, parking.OFFSET: str(n), parking.CONSUMER: "fraud"}) for n in (7, 8)]
    await park(clean, held, gone)
    await clean.pool.execute(
        """INSERT INTO held_facts (group_name, topic, partition, kafka_offset, order_id, kind, reason, headers, body,
                                   attempts, parked_at)
           VALUES ('fraud', 'orders.events', 3, 7, $1, 'failed', 'x', '{}', '', 4, now())""",
        order.order_id,
    )
    assert (await replay_one(clean.pool, held.letter_id, actor=ANN, now=now())).state is LetterState.REPLAYING
    woken = await clean.pool.fetchrow("SELECT attempts, parked_at, wake_at <= clock_timestamp() AS due FROM held_facts")
    assert woken is not None
    assert (woken["attempts"], woken["parked_at"], woken["due"]) == (0, None, True)
    with pytest.raises(LetterNotOpen, match="done meanwhile"):
        await replay_one(clean.pool, gone.letter_id, actor=ANN, now=now())
    assert (await letter(clean, gone.letter_id)).resolution == "done before"
    assert not [row for row in await outbox(clean) if parking.LETTER in row.headers]


async def test_a_letter_that_was_discarded_while_a_copy_of_its_message_was_under_way_says_that_it_was_done(
    clean: Ground,
) -> None:
    (key,) = await park(clean, failed(await placed(clean.pool)))
    await actions.discard(clean.pool, key, reason="told by telephone", actor=ANN, version=None, now=now())
    for _ in range(2):
        await settle(clean.pool, key, outcome="stale", now=now())
        await settle(clean.pool, key, outcome="done", now=now())
    found = await letter(clean, key)
    assert (found.state, found.resolution) == (LetterState.DISCARDED, "told by telephone")
    assert await history(clean, key) == [("discarded", ANN), ("done_all_the_same", "worker")]
    assert await open_in_groups(clean) == 0
