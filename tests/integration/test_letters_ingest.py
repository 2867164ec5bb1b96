"""Letters are recorded once each and counted exactly, however often and in whatever order their messages come."""

import asyncio
import random

import msgspec
import pytest

from adapters.postgres import open_pool
from orders import parking
from orders.failures import Category, FailureType
from orders.ids import derived_id, new_id
from orders.names import DEAD_LETTERS, POISON, Command
from outbox.alerts import POISON as POISON_ALERT
from outbox.alerts import REFUND_PARKED, clear_alert, open_alerts, raise_alert
from outbox.letters.ingest import ingest
from outbox.letters.model import LetterState
from outbox.letters.parked import Parked, letter_of
from outbox.letters.sending import replay_one, settle
from outbox.letters.watch import step as watch
from tests.integration.letters_ground import assert_counted, at, id_of, letter, parked, record, set_state, told
from tests.integration.replays_ground import clean
from tests.integration.workers_ground import Ground, ground

__all__ = ["clean", "ground"]


async def test_a_letter_is_recorded_once_however_often_its_message_comes(clean: Ground) -> None:
    message = parked()
    assert await record(clean.pool, message, message) == [id_of(message)]
    before = await letter(clean.pool, id_of(message))
    assert await record(clean.pool, message) == []
    assert await letter(clean.pool, id_of(message)) == before
    assert (before.state, before.generation, before.version) == (LetterState.OPEN, 1, 1)
    await assert_counted(clean.pool)


async def test_a_message_that_was_parked_twice_by_a_worker_that_died_is_one_letter_and_one_failure(clean: Ground) -> None:
    first, second = (parked(order_id="ord_1", minute=minute, began=0) for minute in (21, 23))
    await record(clean.pool, first)
    assert await record(clean.pool, second) == []
    assert (await letter(clean.pool, id_of(first))).last_failed_at == at(21)
    assert await told(clean.pool, id_of(first)) == []


@pytest.mark.parametrize("state", ["resolved", "discarded"])
async def test_a_copy_that_comes_late_does_not_open_what_was_settled(clean: Ground, state: str) -> None:
    first = parked(order_id="ord_1", minute=21, began=0)
    await record(clean.pool, first)
    await set_state(clean.pool, [id_of(first)], 30, state)
    # Parked before it was settled; and parked after it, but in the course of the same failure.
    assert await record(clean.pool, parked(order_id="ord_1", minute=29, began=28)) == []
    assert await record(clean.pool, parked(order_id="ord_1", minute=31, began=0)) == []
    assert (await letter(clean.pool, id_of(first))).state == state
    await assert_counted(clean.pool)


async def test_a_new_failure_of_what_was_resolved_opens_the_letter_again(clean: Ground) -> None:
    first = parked(order_id="ord_1", minute=21, began=0)
    await record(clean.pool, first)
    await set_state(clean.pool, [id_of(first)], 30)
    again = parked(order_id="ord_1", minute=61, began=40, error="SomethingElse")
    assert await record(clean.pool, again) == [id_of(first)]
    now = await letter(clean.pool, id_of(first))
    assert (now.state, now.generation, now.resolved_at, now.error) == (LetterState.OPEN, 2, None, "SomethingElse")
    assert now.first_failed_at == at(0)
    assert await told(clean.pool, id_of(first)) == ["failed_again"]
    await assert_counted(clean.pool)


async def test_a_command_that_was_done_is_not_opened_by_a_copy_of_it(clean: Ground) -> None:
    first = parked(order_id="ord_1", minute=21, began=0)
    await record(clean.pool, first)
    await set_state(clean.pool, [id_of(first)], 30)
    await clean.pool.execute("INSERT INTO inbox (message_id, done_at) VALUES ($1, $2)", first.message_id, at(30))
    assert await record(clean.pool, parked(order_id="ord_1", minute=61, began=40)) == []


async def test_a_replay_that_fails_again_opens_its_letter_with_the_next_generation(clean: Ground) -> None:
    first = parked(minute=21, began=0)
    key = id_of(first)
    await record(clean.pool, first)
    await replay_one(clean.pool, key, actor="ann", version=None, now=at(30))
    copy = msgspec.structs.replace(first, headers={**first.headers, parking.PARKED_AT: at(31).isoformat()})
    assert await record(clean.pool, copy) == []  # of its earlier life: what was sent is still under way
    trail = {parking.LETTER: key, parking.FIRST_FAILED_AT: at(32).isoformat(), parking.PARKED_AT: at(53).isoformat()}
    again = msgspec.structs.replace(first, headers={**first.headers, **trail})
    assert await record(clean.pool, again, again) == [key]
    now = await letter(clean.pool, key)
    assert (now.state, now.generation) == (LetterState.OPEN, 2)
    assert await told(clean.pool, key) == ["sent", "failed_again"]
    await assert_counted(clean.pool)
    await settle(clean.pool, key, outcome="done", now=at(60))
    await assert_counted(clean.pool)


async def test_an_edited_message_that_fails_again_keeps_the_body_that_was_first_sent(clean: Ground) -> None:
    first = parked(minute=21, began=0, body=b'{"as": "sent"}')
    await record(clean.pool, first)
    await replay_one(clean.pool, id_of(first), actor="ann", version=None, now=at(30))
    trail = {parking.LETTER: id_of(first), parking.EDIT: derived_id("edt", "1"), parking.FIRST_FAILED_AT: at(32).isoformat(),
             parking.PARKED_AT: at(53).isoformat()}  # fmt: skip
    await record(clean.pool, msgspec.structs.replace(first, body=b'{"as": "edited"}', headers={**first.headers, **trail}))
    now = await letter(clean.pool, id_of(first))
    assert (now.body, now.state) == (b'{"as": "sent"}', LetterState.OPEN)


async def test_a_letter_that_fails_otherwise_than_before_moves_to_the_other_group(clean: Ground) -> None:
    first = parked(order_id="ord_1", minute=21, began=0)
    await record(clean.pool, first, parked(minute=5))
    await set_state(clean.pool, [id_of(first)], 30)
    await record(clean.pool, parked(order_id="ord_1", minute=61, began=40, failure=FailureType.RESTAURANT_TIMEOUT))
    groups = await clean.pool.fetch("SELECT failure_type, total, open FROM letter_groups ORDER BY failure_type")
    assert [tuple(row) for row in groups] == [("restaurant_timeout", 1, 1), ("service_unavailable", 1, 1)]
    await assert_counted(clean.pool)


POISONS = {
    "undecodable": Parked(queue=POISON, routing_key="payment.charge", headers={}, body=b"\x00\xff\xfe", message_id="", priority=0),
    "empty": Parked(queue=POISON, routing_key="", headers={}, body=b"", message_id="", priority=0),
    "ten megabytes": Parked(queue=POISON, routing_key="payment.charge", headers={}, body=b"\x00" * 10_000_000, message_id="x", priority=0),
    "NUL in its headers": Parked(
        queue=POISON, routing_key="a\x00b", headers={"cloudEvents_type": "a\x00b", "a\x00": "\x00", parking.LAST_MESSAGE: "\x00 in it"},
        body=b"{}", message_id="\x00", priority=0,
    ),
    "headers in no encoding": Parked(
        queue=POISON, routing_key="payment.charge", headers={"cloudEvents_subject": b"\xff\xfe", parking.CONSUMER: b"\xff"}, body=b"{}",
        message_id="x", priority=0,
    ),
    "headers that are no texts": Parked(
        queue=POISON, routing_key="x", headers={"cloudEvents_type": {"a": [1, None]}, parking.ATTEMPTS: 10**30, "f": 1.5, "n": None},
        body=b"{}", message_id="x", priority=255,
    ),
    "numbers out of range": Parked(
        queue=POISON, routing_key="x", headers={"cloudEvents_schemaversion": "9" * 19, "cloudEvents_position": "-3",
        parking.ATTEMPTS: "99999999999", parking.PARKED_AT: "9999-99-99"}, body=b"{}", message_id="x", priority=0,
    ),
    "long headers": Parked(
        queue=POISON, routing_key="x" * 255, headers={"cloudEvents_type": "é" * 60_000, parking.LAST_MESSAGE: "long " * 20_000,
        "cloudEvents_subject": "o" * 60_000, parking.CONSUMER: "c" * 60_000}, body=b"{}", message_id="m" * 255, priority=0,
    ),
    "half a surrogate pair": Parked(
        queue=POISON, routing_key="x", headers={"cloudEvents_type": "\ud800"}, body=b"{}", message_id="\udfff", priority=0
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(POISONS))
async def test_poison_is_recorded_with_its_bytes_and_an_alert_is_raised_at_once(clean: Ground, name: str) -> None:
    (key,) = await record(clean.pool, POISONS[name])
    now = await letter(clean.pool, key)
    assert now.body == POISONS[name].body
    assert (now.category, now.state) == (Category.POISON, LetterState.OPEN)
    assert now.quarantined_at is not None
    assert [(alert.kind, alert.subject) for alert in await open_alerts(clean.pool)] == [(POISON_ALERT, now.fingerprint)]
    assert await record(clean.pool, POISONS[name]) == []
    await assert_counted(clean.pool)


async def test_a_refund_that_was_parked_raises_an_alert_which_ends_with_its_letter(clean: Ground) -> None:
    refund = parked(Command.PAYMENT_REFUND)
    await record(clean.pool, refund, refund)
    await record(clean.pool, refund)
    (alert,) = await open_alerts(clean.pool)
    assert (alert.kind, alert.subject, alert.times) == (REFUND_PARKED, id_of(refund), 1)
    await watch(clean.pool, at(30))
    assert len(await open_alerts(clean.pool)) == 1
    await set_state(clean.pool, [id_of(refund)], 30)
    await watch(clean.pool, at(31))
    assert await open_alerts(clean.pool) == []


async def test_an_alert_is_counted_while_it_is_open_and_begins_anew_once_it_was_cleared(clean: Ground) -> None:
    for minute in (1, 2):
        await raise_alert(clean.pool, "kind", "subject", f"detail {minute}", at(minute))
    (alert,) = await open_alerts(clean.pool)
    assert (alert.times, alert.detail, alert.raised_at, alert.last_at) == (2, "detail 2", at(1), at(2))
    await clear_alert(clean.pool, "kind", "subject", at(3))
    assert await open_alerts(clean.pool) == []
    await raise_alert(clean.pool, "kind", "subject", "again", at(4))
    (alert,) = await open_alerts(clean.pool)
    assert (alert.times, alert.raised_at) == (1, at(4))


async def test_letters_that_are_born_resolved_are_counted_and_not_open(clean: Ground) -> None:
    born = msgspec.structs.replace(
        letter_of(parked(), at(1)),
        state=LetterState.RESOLVED,
        resolution="compensated",
        resolved_by="orders",
        resolved_at=at(1),
    )
    await ingest(clean.pool, [born])
    await ingest(clean.pool, [born])
    (group,) = await clean.pool.fetch("SELECT total, open FROM letter_groups")
    assert tuple(group) == (1, 0)
    await assert_counted(clean.pool)


async def test_a_batch_is_recorded_in_the_callers_transaction_or_not_at_all(clean: Ground) -> None:
    async with clean.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await ingest(conn, [letter_of(parked(), at(1))])
        await transaction.rollback()
    assert await clean.pool.fetchval("SELECT count(*) FROM dead_letters") == 0
    await assert_counted(clean.pool)


async def test_many_processes_that_record_the_same_messages_count_each_once(clean: Ground) -> None:
    """Eight at once, in batches that overlap and in orders of their own: no deadlock, no double count."""
    rng = random.Random(11)  # noqa: S311  # seeded
    errors = [f"Trouble{n}" for n in range(6)]
    messages = [parked(order_id=new_id("ord"), minute=n % 50, error=rng.choice(errors)) for n in range(400)]

    async def process(number: int) -> int:
        mine = messages.copy()
        random.Random(number).shuffle(mine)  # noqa: S311  # seeded
        batches = [mine[first : first + 40] for first in range(0, len(mine), 40)]
        return sum([len(await record(pool, *batch)) for batch in batches])

    async with open_pool(clean.settings.postgres_dsn, service="tests", size=8) as pool:
        assert sum(await asyncio.gather(*map(process, range(8)))) == len(messages)
    assert await clean.pool.fetchval("SELECT count(*) FROM dead_letters") == len(messages)
    await assert_counted(clean.pool)


async def test_a_dead_queue_that_the_broker_filled_itself_makes_letters_too(clean: Ground) -> None:
    """Without any header of ours: dead-lettered by a policy, or put there by hand."""
    bare = Parked(queue=DEAD_LETTERS, routing_key="driver.dispatch", headers={}, body=b"{}", message_id="", priority=0)
    (key,) = await record(clean.pool, bare, minute=1)
    assert await record(clean.pool, bare, minute=2) == []
    now = await letter(clean.pool, key)
    assert (now.consumer, now.failure_type, now.parked_at) == ("drivers", FailureType.UNKNOWN, at(1))
