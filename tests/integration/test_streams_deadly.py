"""A fact that kills its stream each time is quarantined after a few deaths; its neighbours take effect and are not blamed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from adapters.settings import Settings
from orders.failures import Category, FailureType
from outbox.letters.actions import discard
from outbox.letters.model import Letter
from outbox.letters.sending import replay_one
from streams.group import Group
from streams.isolation import MOST_STARTS
from streams.sql import in_schema
from tests.integration.held_ground import (
    FIFTH,
    Bug,
    Buggy,
    DeadlySupport,
    DeadlyToRead,
    behind,
    buggy,
    kill,
    parked_letter,
    start,
)
from tests.integration.streams_making import audits, facts, journey, named, own_topic, positions, publish, rows
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually

__all__ = ["ground"]
pytestmark = pytest.mark.timeout(240)
MOST_DEATHS = MOST_STARTS + 2  # with the batch that nobody expected, and once more before each fact is handled alone
KINDS: dict[str, type[Buggy]] = {"deadly": DeadlySupport, "deadly-to-read": DeadlyToRead}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "bug"


class _Supervised:
    """A stream that is started again whenever it has died."""

    def __init__(self, settings: Settings, kind: str, group: Group, place: Path) -> None:
        self._of, self.deaths = (settings, kind, group.topic, group.name, place), 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._process = await start(*self._of)
        try:
            yield
        finally:
            if self._process.returncode is None:
                await kill(self._process)

    async def reached(self, settings: Settings, group: Group, wanted: dict[str, int]) -> None:
        async def check() -> None:
            if self._process.returncode is not None:
                self.deaths += 1
                self._process = await start(*self._of)
            assert await positions(settings, group) == wanted

        await eventually(check, 90)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fact_that_kills_its_stream_is_quarantined_and_its_partition_goes_on(
    ground: Ground, stack: Settings, place: Path, kind: str
) -> None:
    settings = ground.settings
    seen = msgspec.structs.replace(settings, migrate_dsn=stack.migrate_url) if kind == "deadly-to-read" else settings
    topic, journeys, bug = await own_topic(settings, partitions=1), [journey() for _ in range(6)], Bug(place)
    group, ill = buggy(KINDS[kind], topic, named("deadly"), bug), journeys[2][0].order.order_id
    make = audits if kind == "deadly-to-read" else facts
    wanted = {changes[0].order.order_id: 9 for changes in journeys} | {ill: FIFTH - 1}
    sent = sorted((row for changes in journeys for row in make(changes, topic)), key=lambda row: row.position or 0)
    late = [row for row in sent if row.aggregate_id == ill and row.position == 9]  # comes once the deadly one is held
    bug.strikes(ill)
    stream = _Supervised(settings, kind, group, place)
    async with behind(ground, settings), stream.running():  # after each death Kafka waits ten seconds for it to come back
        await publish(settings, [row for row in sent if row not in late])
        await stream.reached(seen, group, wanted)
        letter = await _quarantined(ground, group, ill)
        await publish(settings, [*late, *make(other := journey(), topic)])
        wanted |= {other[0].order.order_id: 9}
        await stream.reached(seen, group, wanted)
        assert stream.deaths <= MOST_DEATHS  # what is quarantined is not looked into again
        assert not await _on_record(seen, group)

        now = datetime.now(UTC)
        if kind == "deadly":
            bug.mended()
            await replay_one(ground.pool, letter.letter_id, actor="ann", now=now)
        else:
            await discard(ground.pool, letter.letter_id, reason="nobody can read it", actor="ann", version=None, now=now)
        await stream.reached(seen, group, {**wanted, ill: 9})
    assert stream.deaths <= MOST_DEATHS


async def _quarantined(ground: Ground, group: Group, order_id: str) -> Letter:
    """The one letter there is: nobody else was blamed."""
    letter = await parked_letter(ground, group)
    assert (letter.order_id, letter.reason, letter.queue) == (order_id, "kills-its-stream", "orders.dlq.poison")
    assert (letter.failure_type, letter.category) == (FailureType.INVALID_MESSAGE, Category.POISON)
    return letter


async def _on_record(settings: Settings, group: Group) -> list[dict[str, object]]:
    return await rows(settings, in_schema("SELECT * FROM SCHEMA.started_facts WHERE group_name = $1", group.schema), group.name)
