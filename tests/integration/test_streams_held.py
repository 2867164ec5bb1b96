"""A fact that fails is held with later facts of its order, woken through the tiers, parked as a letter, released in order."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from adapters.settings import Settings
from orders import parking
from orders.decide import Change
from orders.envelope import KAFKA_PREFIX
from orders.failures import Category, FailureType
from outbox.letters.actions import discard
from outbox.letters.model import LetterState, Source
from outbox.letters.sending import replay_one
from streams import operate
from streams.group import Group
from tests.integration.held_ground import (
    FIFTH,
    Bug,
    BuggyAnalytics,
    BuggySupport,
    behind,
    buggy,
    letters_of,
    parked_letter,
    placed,
    standing_by,
    until_held,
)
from tests.integration.streams_making import facts, following, held, journey, named, own_topic, positions, publish, rows
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually

__all__ = ["ground"]


@pytest.fixture
def bug(tmp_path: Path) -> Bug:
    return Bug(tmp_path / "bug")


@pytest.fixture
async def settings(ground: Ground) -> Settings:
    await ground.pool.execute("DELETE FROM held_facts")
    return msgspec.structs.replace(ground.settings, time_scale=600.0)


async def _reached(settings: Settings, group: Group, wanted: dict[str, int], timeout_s: float = 30) -> None:
    async def check() -> None:
        assert await positions(settings, group) == wanted

    await eventually(check, timeout_s)


def _order(changes: list[Change]) -> str:
    return changes[0].order.order_id


async def test_a_fact_that_fails_twice_is_woken_by_its_tiers_and_takes_effect_in_order(
    ground: Ground, settings: Settings, bug: Bug
) -> None:
    slower = msgspec.structs.replace(settings, time_scale=40.0)  # the first tier takes 1.5 s, the second 7.5 s
    topic, journeys = await own_topic(settings, partitions=1), [journey() for _ in range(3)]
    group, ill = buggy(BuggyAnalytics, topic, named("analytics"), bug), _order(journeys[1])
    bug.strikes(ill)
    others = {_order(changes): 9 for changes in journeys if _order(changes) != ill}
    before = await placed(settings)
    async with standing_by(ground, slower, group):
        await publish(settings, [row for changes in journeys for row in facts(changes, topic)])
        await _reached(settings, group, {**others, ill: 4})
        for attempts in (1, 2):
            await until_held(settings, group, position=FIFTH, kind="failed", attempts=attempts)
            # Only the tier can wake it now.
            await ground.pool.execute("UPDATE held_facts SET wake_at = now() + interval '1 hour' WHERE kind = 'failed'")
            assert [row["position"] for row in await held(settings, group)] == [5, 6, 7, 8, 9]
            if attempts == 2:
                bug.mended()
        await _reached(settings, group, {**others, ill: 9})
    assert not await held(settings, group)
    assert await placed(settings) - before == 3
    assert not await letters_of(ground, group)


async def test_a_fact_whose_wake_up_is_lost_wakes_by_itself_a_little_later(
    ground: Ground, settings: Settings, bug: Bug
) -> None:
    topic, changes = await own_topic(settings, partitions=1), journey()
    group, order_id = buggy(BuggySupport, topic, named("support"), bug), _order(changes)
    bug.strikes(order_id)
    await publish(settings, facts(changes, topic))
    async with following(settings, group):  # and nobody relays
        await until_held(settings, group, position=FIFTH, attempts=1)
        bug.mended()
        await _reached(settings, group, {order_id: 9})
    (row,) = await rows(settings, "SELECT destination, headers FROM outbox WHERE aggregate_id = $1", order_id)
    assert (row["destination"], row["headers"][parking.WAIT_MS]) == ("orders.retry.1m/order.wake", "100")


async def test_a_fact_whose_attempts_are_spent_becomes_a_letter_with_the_trail_of_its_failures(
    ground: Ground, settings: Settings, bug: Bug
) -> None:
    topic, changes = await own_topic(settings, partitions=1), journey()
    order_id, sent = _order(changes), facts(changes, topic)
    named_one, unnamed = (
        buggy(BuggySupport, topic, named("support"), bug),
        buggy(BuggyAnalytics, topic, named("analytics"), bug),
    )
    bug.strikes(order_id)
    async with standing_by(ground, settings, named_one, unnamed):
        await publish(settings, sent)
        letter, other = await parked_letter(ground, named_one), await parked_letter(ground, unnamed)
    for each, group in ((letter, named_one), (other, unnamed)):
        assert (each.source, each.queue, each.order_id, each.position) == (Source.FACT, "orders.dlq", order_id, FIFTH)
        assert (each.message_id, each.body, each.type) == (sent[4].event_id, sent[4].body, "restaurant.accepted")
        assert (each.topic, each.partition, each.kafka_offset, each.attempts) == (topic, 0, 4, 4)
        assert each.headers[f"{KAFKA_PREFIX}id"] == sent[4].event_id
        assert each.first_failed_at < each.last_failed_at <= datetime.now(UTC)
        found = await held(settings, group)
        assert [(row["position"], row["parked_at"] is None) for row in found] == [
            (5, False),
            *((n, True) for n in range(6, 10)),
        ]
        assert found[0]["wake_at"] is None
    assert (letter.failure_type, letter.error, letter.reason) == (FailureType.SERVICE_UNAVAILABLE, "Overloaded", "overloaded")
    assert (letter.stack, letter.message) == ("", "Overloaded: the read model is overloaded")
    assert (other.failure_type, other.error, other.reason) == (FailureType.UNKNOWN, "DivisionByZeroError", "unknown")
    assert "held_ground.py" in other.stack
    assert letter.category is other.category is Category.TRANSIENT


async def test_a_replayed_letter_releases_what_waits_behind_it_in_order(ground: Ground, settings: Settings, bug: Bug) -> None:
    topic, journeys = await own_topic(settings, partitions=1), [journey() for _ in range(2)]
    group, ill = buggy(BuggyAnalytics, topic, named("analytics"), bug), _order(journeys[0])
    bug.strikes(ill)
    before = await placed(settings)
    async with standing_by(ground, settings, group):
        await publish(settings, [row for changes in journeys for row in facts(changes, topic)])
        letter = await parked_letter(ground, group)
        bug.mended()
        sent = await replay_one(ground.pool, letter.letter_id, actor="ann", now=datetime.now(UTC))
        assert sent.state is LetterState.REPLAYING
        await _reached(settings, group, {_order(changes): 9 for changes in journeys})
    assert not await held(settings, group)
    assert await placed(settings) - before == 2
    (settled,) = await letters_of(ground, group)
    assert (settled.state, settled.resolution, settled.resolved_by) == (LetterState.RESOLVED, "replayed", "ann")


async def test_a_letter_whose_fact_fails_again_comes_back_once_more(ground: Ground, settings: Settings, bug: Bug) -> None:
    topic, changes = await own_topic(settings, partitions=1), journey()
    group, order_id = buggy(BuggySupport, topic, named("support"), bug), _order(changes)
    bug.strikes(order_id)
    async with standing_by(ground, settings, group):
        await publish(settings, facts(changes, topic))
        first = await parked_letter(ground, group)
        await replay_one(ground.pool, first.letter_id, actor="ann", now=datetime.now(UTC))
        again = await parked_letter(ground, group, generation=2)
        assert (again.letter_id, again.attempts) == (first.letter_id, 4)
        assert again.first_failed_at == first.first_failed_at
        assert await positions(settings, group) == {order_id: 4}
        bug.mended()
        await replay_one(ground.pool, first.letter_id, actor="ann", now=datetime.now(UTC))
        await _reached(settings, group, {order_id: 9})


async def test_a_discarded_letter_is_passed_and_what_waits_behind_it_takes_effect_once(
    ground: Ground, settings: Settings, bug: Bug
) -> None:
    topic, changes = await own_topic(settings, partitions=1), journey()
    group, order_id = buggy(BuggySupport, topic, named("support"), bug), _order(changes)
    bug.strikes(order_id)
    async with standing_by(ground, settings, group):
        await publish(settings, facts(changes, topic))
        letter = await parked_letter(ground, group)
        now = datetime.now(UTC)
        await discard(ground.pool, letter.letter_id, reason="the restaurant is closed", actor="ann", version=None, now=now)
        await _reached(settings, group, {order_id: 9})
        await publish(settings, facts(changes, topic))  # and nothing of it comes back
    (row,) = await held(settings, group)
    assert (row["position"], row["skipped_at"] is None) == (FIFTH, False)
    (seen,) = await rows(settings, "SELECT state, accepted_at, captured FROM support_orders WHERE order_id = $1", order_id)
    assert seen == {"state": "delivered", "accepted_at": None, "captured": changes[0].order.total}
    (kept,) = await letters_of(ground, group)
    assert (kept.state, kept.resolution) == (LetterState.DISCARDED, "the restaurant is closed")


async def test_a_fact_that_is_discarded_before_its_turn_is_passed_when_its_turn_comes(
    ground: Ground, settings: Settings, bug: Bug
) -> None:
    topic, changes = await own_topic(settings, partitions=1), journey()
    group, order_id, sent = buggy(BuggySupport, topic, named("support"), bug), _order(changes), facts(changes, topic)
    sent[6] = msgspec.structs.replace(sent[6], body=b"?")
    bug.strikes(order_id)
    async with standing_by(ground, settings, group):
        await publish(settings, sent)

        async def both() -> None:
            assert len(await letters_of(ground, group)) == 2

        await eventually(both)
        poison = next(each for each in await letters_of(ground, group) if each.category is Category.POISON)
        now = datetime.now(UTC)
        await discard(ground.pool, poison.letter_id, reason="unreadable", actor="ann", version=None, now=now)

        async def at_rest() -> None:
            row = next(each for each in await held(settings, group) if each["position"] == 7)
            assert (row["discarded_at"] is None, row["wake_at"], row["skipped_at"]) == (False, None, None)

        await eventually(at_rest)
        assert await positions(settings, group) == {order_id: 4}
        bug.mended()
        blocking = next(each for each in await letters_of(ground, group) if each.state is LetterState.OPEN)
        await replay_one(ground.pool, blocking.letter_id, actor="ann", now=datetime.now(UTC))
        await _reached(settings, group, {order_id: 9})
    assert [(row["position"], row["skipped_at"] is None) for row in await held(settings, group)] == [(7, False)]


async def test_a_partition_is_never_blocked_by_orders_that_fail(ground: Ground, settings: Settings, bug: Bug) -> None:
    topic, journeys = await own_topic(settings, partitions=1), [journey() for _ in range(200)]
    group = buggy(BuggyAnalytics, topic, named("analytics"), bug)
    ill = {_order(changes) for changes in journeys[::10]}
    bug.strikes(*ill)
    before = await placed(settings)
    async with standing_by(ground, settings, group, batch_rows=100):
        await publish(settings, [row for changes in journeys for row in facts(changes, topic)])
        await _reached(settings, group, {_order(each): 4 if _order(each) in ill else 9 for each in journeys}, 60)
        bug.mended()
        await _reached(settings, group, {_order(each): 9 for each in journeys}, 60)
    assert await placed(settings) - before == 200
    assert not await held(settings, group)


async def test_an_order_that_an_operator_skips_on_the_command_line_takes_its_letter_with_it(
    ground: Ground, settings: Settings, bug: Bug
) -> None:
    topic, changes = await own_topic(settings, partitions=1), journey()
    group, order_id = buggy(BuggySupport, topic, named("support"), bug), _order(changes)
    bug.strikes(order_id)
    async with behind(ground, settings):
        async with following(settings, group):
            await publish(settings, facts(changes, topic))
            await parked_letter(ground, group)
        await operate.skip(settings, group, order_id)
        (letter,) = await letters_of(ground, group)
        assert (letter.state, letter.resolution) == (LetterState.RESOLVED, "skipped")
        async with following(settings, group):
            await _reached(settings, group, {order_id: 9})
