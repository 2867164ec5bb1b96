"""The audit group holds facts in a database of its own: woken by its own clock, its letters and decisions carried over."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from adapters.postgres import connect
from adapters.settings import Settings
from orders import parking
from orders.decide import Change
from outbox.letters.actions import discard
from outbox.letters.model import LetterState
from outbox.letters.sending import replay_one
from streams.courier import Courier
from streams.group import Group
from tests.integration.held_ground import FIFTH, Bug, BuggyAudit, behind, buggy, letters_of, parked_letter, standing_by
from tests.integration.streams_making import audits, following, held, journey, named, own_topic, positions, publish, rows
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually

__all__ = ["ground"]


@pytest.fixture
def bug(tmp_path: Path) -> Bug:
    return Bug(tmp_path / "bug")


@pytest.fixture
async def settings(ground: Ground) -> Settings:
    """Orders and letters in one database, the ledger in another."""
    assert ground.settings.audit_url.rpartition("/")[2] != ground.settings.postgres_dsn.rpartition("/")[2]
    await ground.pool.execute("DELETE FROM outbox")
    return ground.settings


@pytest.fixture
def ledger(settings: Settings, stack: Settings) -> Settings:
    """The ledger's database as its owner sees it."""
    return msgspec.structs.replace(settings, migrate_dsn=stack.migrate_url)


async def _reached(ledger: Settings, group: Group, wanted: dict[str, int]) -> None:
    async def check() -> None:
        assert await positions(ledger, group) == wanted

    await eventually(check)


async def _stored(ledger: Settings, order_id: str) -> list[int]:
    found = await rows(ledger, "SELECT position FROM audit.events WHERE chain = $1 ORDER BY position", order_id)
    return [row["position"] for row in found]


async def _settled(ground: Ground, group: Group, state: LetterState, resolution: str) -> None:
    async def check() -> None:
        (letter,) = await letters_of(ground, group)
        assert (letter.state, letter.resolution) == (state, resolution)

    await eventually(check)


async def _prepared(settings: Settings, bug: Bug) -> tuple[Group, list[Change], str]:
    topic, changes = await own_topic(settings, partitions=1), journey()
    group = buggy(BuggyAudit, topic, named("audit"), bug)
    bug.strikes(changes[0].order.order_id)
    await publish(settings, audits(changes, topic))
    return group, changes, changes[0].order.order_id


async def test_an_audit_event_that_fails_is_tried_again_on_the_same_schedule(
    ground: Ground, settings: Settings, ledger: Settings, bug: Bug
) -> None:
    group, _, order_id = await _prepared(settings, bug)
    async with following(settings, group):  # no relay, no tier, no worker

        async def tried() -> None:
            found = [(row["kind"], row["attempts"]) for row in await held(ledger, group) if row["position"] == FIFTH]
            assert found == [("failed", 2)]

        await eventually(tried)
        bug.mended()
        await _reached(ledger, group, {order_id: 9})
    assert await _stored(ledger, order_id) == list(range(1, 10))
    assert not await held(ledger, group)
    assert not await letters_of(ground, group)


async def test_an_audit_event_whose_attempts_are_spent_is_a_letter_and_goes_on_in_order_when_it_is_replayed(
    ground: Ground, settings: Settings, ledger: Settings, bug: Bug
) -> None:
    group, changes, order_id = await _prepared(settings, bug)
    async with standing_by(ground, settings, group):
        letter = await parked_letter(ground, group)
        assert (letter.body, letter.attempts, letter.order_id) == (audits(changes, "t")[4].body, 4, order_id)
        assert letter.headers[parking.HELD_IN] == "audit"
        assert await _stored(ledger, order_id) == [1, 2, 3, 4]
        bug.mended()
        await replay_one(ground.pool, letter.letter_id, actor="ann", now=datetime.now(UTC))
        await _reached(ledger, group, {order_id: 9})
        await _settled(ground, group, LetterState.RESOLVED, "replayed")
    assert await _stored(ledger, order_id) == list(range(1, 10))
    assert not await rows(ledger, "SELECT FROM audit.broken_events WHERE chain = $1", order_id)
    assert not await rows(ledger, "SELECT FROM audit.settled_letters")
    assert not await ground.pool.fetch("SELECT FROM held_decisions")


async def test_a_discarded_audit_event_leaves_a_break_in_its_orders_chain_that_everyone_can_see(
    ground: Ground, settings: Settings, ledger: Settings, bug: Bug
) -> None:
    group, _, order_id = await _prepared(settings, bug)
    async with standing_by(ground, settings, group):
        letter = await parked_letter(ground, group)
        now = datetime.now(UTC)
        await discard(ground.pool, letter.letter_id, reason="cannot be stored", actor="ann", version=None, now=now)
        await _reached(ledger, group, {order_id: 9})
    # The next one links to what is not there: that is told once, and what follows fits again.
    assert await _stored(ledger, order_id) == [1, 2, 3, 4, 7, 8, 9]
    assert [
        row["position"] for row in await rows(ledger, "SELECT position FROM audit.broken_events WHERE chain = $1", order_id)
    ] == [6]
    (row,) = await held(ledger, group)
    assert (row["position"], row["skipped_at"] is None) == (FIFTH, False)


async def test_a_letter_that_is_reported_twice_is_one_letter(
    ground: Ground, settings: Settings, ledger: Settings, bug: Bug
) -> None:
    group, _, _ = await _prepared(settings, bug)
    async with standing_by(ground, settings, group):
        first = await parked_letter(ground, group)
        await rows(ledger, "UPDATE audit.held_facts SET reported_at = NULL WHERE group_name = $1", group.name)

        async def reported_again() -> None:
            row = next(row for row in await held(ledger, group) if row["position"] == FIFTH)
            assert row["reported_at"] is not None
            assert await ground.pool.fetchval("SELECT count(*) FROM outbox") == 0
            assert await ground.depth("orders.dlq") == 0

        await eventually(reported_again)
        assert await letters_of(ground, group) == [first]


async def test_a_decision_that_comes_after_the_fact_took_effect_settles_its_letter(
    ground: Ground, settings: Settings, ledger: Settings, bug: Bug
) -> None:
    group, _, order_id = await _prepared(settings, bug)
    async with behind(ground, settings):
        async with following(settings, group):
            letter = await parked_letter(ground, group)
        # The group stands still while somebody decides, and meanwhile its fact is gone.
        await replay_one(ground.pool, letter.letter_id, actor="ann", now=datetime.now(UTC))
        await rows(ledger, "DELETE FROM audit.held_facts WHERE group_name = $1 AND order_id = $2", group.name, order_id)
        async with (
            connect(settings.audit_url, service="tests") as own,
            connect(settings.postgres_dsn, service="tests") as main,
        ):
            assert await Courier(group, settings).carry(own, main) == 1
            assert await Courier(group, settings).carry(own, main) == 0
        await _settled(ground, group, LetterState.RESOLVED, "replayed")
