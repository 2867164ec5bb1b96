"""A stream that is killed while facts of it are held: nothing is lost, nothing takes effect twice, order is kept."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from adapters.settings import Settings
from outbox.letters.actions import discard
from outbox.letters.model import LetterState
from outbox.letters.sending import replay_one
from streams.group import Group
from tests.integration.held_ground import (
    FIFTH,
    Bug,
    BuggyAnalytics,
    BuggyAudit,
    BuggySupport,
    behind,
    buggy,
    kill,
    letters_of,
    parked_letter,
    placed,
    start,
    until_held,
)
from tests.integration.streams_making import audits, facts, held, journey, named, own_topic, positions, publish, rows
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually

__all__ = ["ground"]
_MOMENTS = ("kind = 'failed'", "attempts = 2 AND wake_at <= clock_timestamp()", "parked_at IS NOT NULL")
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def bug(tmp_path: Path) -> Bug:
    return Bug(tmp_path / "bug")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "bug"


@pytest.fixture
async def settings(ground: Ground) -> Settings:
    await ground.pool.execute("DELETE FROM held_facts")
    return ground.settings


async def _reached(settings: Settings, group: Group, wanted: dict[str, int]) -> None:
    async def check() -> None:
        assert await positions(settings, group) == wanted

    await eventually(check, 60)


async def test_killed_between_holding_a_fact_and_its_wake_up(ground: Ground, settings: Settings, bug: Bug, place: Path) -> None:
    slower = msgspec.structs.replace(settings, time_scale=30.0)
    topic, changes, name = await own_topic(settings, partitions=1), journey(), named("analytics")
    group, order_id = buggy(BuggyAnalytics, topic, name, bug), changes[0].order.order_id
    bug.strikes(order_id)
    before = await placed(settings)
    async with behind(ground, slower):
        process = await start(slower, "analytics", topic, name, place)
        await publish(settings, facts(changes, topic))
        await until_held(settings, group, position=FIFTH, attempts=1)
        await kill(process)
        bug.mended()
        process = await start(slower, "analytics", topic, name, place)
        await _reached(settings, group, {order_id: 9})
        await kill(process)
    assert not await held(settings, group)
    assert await placed(settings) - before == 1


async def test_killed_between_parking_a_fact_and_reporting_it(
    ground: Ground, settings: Settings, stack: Settings, bug: Bug, place: Path
) -> None:
    topic, changes, name = await own_topic(settings, partitions=1), journey(), named("audit")
    group, order_id = buggy(BuggyAudit, topic, name, bug), changes[0].order.order_id
    ledger = msgspec.structs.replace(settings, migrate_dsn=stack.migrate_url)
    bug.strikes(order_id)
    async with behind(ground, settings):
        process = await start(settings, "audit", topic, name, place, courier=False)  # killed before it can report
        await publish(settings, audits(changes, topic))

        async def parked() -> None:
            found = [
                (row["parked_at"] is None, row["reported_at"]) for row in await held(ledger, group) if row["position"] == FIFTH
            ]
            assert found == [(False, None)]

        await eventually(parked, 60)
        await kill(process)
        assert not await letters_of(ground, group)
        process = await start(settings, "audit", topic, name, place)
        letter = await parked_letter(ground, group)
        bug.mended()
        await replay_one(ground.pool, letter.letter_id, actor="ann", now=datetime.now(UTC))
        await _reached(ledger, group, {order_id: 9})

        async def settled() -> None:
            assert [each.state for each in await letters_of(ground, group)] == [LetterState.RESOLVED]

        await eventually(settled)
        await kill(process)


@pytest.mark.parametrize("decision", ["replayed", "discarded"])
async def test_a_decision_about_a_stream_that_is_dead_is_carried_out_when_it_lives_again(
    ground: Ground, settings: Settings, bug: Bug, place: Path, decision: str
) -> None:
    topic, changes, name = await own_topic(settings, partitions=1), journey(), named("support")
    group, order_id = buggy(BuggySupport, topic, name, bug), changes[0].order.order_id
    bug.strikes(order_id)
    async with behind(ground, settings):
        process = await start(settings, "support", topic, name, place)
        await publish(settings, facts(changes, topic))
        letter = await parked_letter(ground, group)
        await kill(process)
        now = datetime.now(UTC)
        if decision == "replayed":
            bug.mended()
            await replay_one(ground.pool, letter.letter_id, actor="ann", now=now)
        else:
            await discard(ground.pool, letter.letter_id, reason="x", actor="ann", version=None, now=now)
        process = await start(settings, "support", topic, name, place)
        await _reached(settings, group, {order_id: 9})
        await kill(process)
    (seen,) = await rows(
        settings, "SELECT state, accepted_at IS NULL AS missed FROM support_orders WHERE order_id = $1", order_id
    )
    assert seen == {"state": "delivered", "missed": decision == "discarded"}


async def test_killed_again_and_again_while_facts_fail_and_wake_everything_takes_effect_once(
    ground: Ground, settings: Settings, bug: Bug, place: Path
) -> None:
    topic, name, journeys = await own_topic(settings), named("analytics"), [journey() for _ in range(60)]
    group = buggy(BuggyAnalytics, topic, name, bug)
    ill = [changes[0].order.order_id for changes in journeys[::6]]
    bug.strikes(*ill)
    before = await placed(settings)
    async with behind(ground, settings):
        for changes, moment in zip((journeys[:20], journeys[20:40], journeys[40:]), _MOMENTS, strict=True):
            process = await start(settings, "analytics", topic, name, place)
            await publish(settings, [row for each in changes for row in facts(each, topic)])
            await _until(settings, group, moment)
            await kill(process)
        bug.mended()
        process = await start(settings, "analytics", topic, name, place)

        async def all_took_effect() -> None:
            for letter in await letters_of(ground, group):
                if letter.state is LetterState.OPEN:
                    await replay_one(ground.pool, letter.letter_id, actor="ann", now=datetime.now(UTC))
            assert await positions(settings, group) == {changes[0].order.order_id: 9 for changes in journeys}

        await eventually(all_took_effect, 90)

        async def all_settled() -> None:
            assert {each.state for each in await letters_of(ground, group)} <= {LetterState.RESOLVED}

        await eventually(all_settled)
        await kill(process)
    assert not await held(settings, group)
    assert await placed(settings) - before == 60


async def _until(settings: Settings, group: Group, moment: str) -> None:
    async def check() -> None:
        found = await rows(settings, f"SELECT FROM held_facts WHERE group_name = $1 AND {moment}", group.name)  # ours
        assert found

    await eventually(check, 60)
