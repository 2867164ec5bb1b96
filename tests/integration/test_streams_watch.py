"""What is held is counted, and orders that wait for a fact that never comes are not found by chance."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from adapters.postgres import Connection, connect
from outbox import alerts
from streams.courier import GAP, Courier
from streams.group import Group
from streams.support import Support
from tests.integration.streams_making import named
from tests.integration.workers_ground import Ground, ground

__all__ = ["ground"]

_HOLD = """
INSERT INTO held_facts (group_name, order_id, position, topic, partition, kafka_offset, headers, body, kind, reason, held_at,
                        parked_at, skipped_at)
VALUES ($1, $2, $3, 't', 0, $4, '{}', '', $5, '', now() - $6::text::interval, $7, $8)
"""


@pytest.fixture
async def db(ground: Ground) -> AsyncIterator[Connection]:
    async with connect(ground.settings.postgres_dsn, service="tests") as conn:
        yield conn


@pytest.fixture
def group() -> Group:
    return Support(topic="t", name=named("support"))


async def _hold(
    db: Connection,
    group: Group,
    offset: int,
    kind: str,
    *,
    order: str = "a",
    position: int = 5,
    age: str = "1 second",
    **at: datetime,
) -> None:
    await db.execute(_HOLD, group.name, order, position, offset, kind, age, at.get("parked_at"), at.get("skipped_at"))


def _counted(group: Group, kind: str) -> float | None:
    return REGISTRY.get_sample_value("rushline_held_facts", {"group": group.name, "kind": kind})


async def _alarm(db: Connection, group: Group) -> str | None:
    found = [each.detail for each in await alerts.open_alerts(db) if (each.kind, each.subject) == (GAP, group.name)]
    return found[0] if found else None


async def test_what_is_held_is_counted_by_why(ground: Ground, db: Connection, group: Group) -> None:
    now = datetime.now(UTC)
    await _hold(db, group, 1, "failed")
    await _hold(db, group, 2, "failed", parked_at=now, order="b")
    await _hold(db, group, 3, "gap", position=6)
    await _hold(db, group, 4, "gap", position=7)
    await _hold(db, group, 5, "failed", skipped_at=now, order="c")
    await Courier(group, ground.settings).look(db, db)
    kinds = ("gap", "failed", "parked", "invalid-message")
    assert [_counted(group, kind) for kind in kinds] == [2, 1, 1, 0]


async def test_orders_that_wait_too_long_for_a_fact_that_never_came_raise_one_alert(
    ground: Ground, db: Connection, group: Group
) -> None:
    courier = Courier(group, ground.settings)
    await _hold(db, group, 1, "gap", order="young")
    await _hold(db, group, 2, "failed", order="failing", age="1 hour")
    await _hold(db, group, 3, "gap", order="failing", position=6, age="1 hour")
    await courier.look(db, db)
    assert await _alarm(db, group) is None
    await _hold(db, group, 4, "gap", order="old", position=3, age="1 hour")
    await _hold(db, group, 5, "gap", order="older", position=2, age="2 hours")
    await courier.look(db, db)
    said = await _alarm(db, group)
    assert said is not None
    assert "2 orders wait" in said
    assert f"rushline stream skip {group.name} older" in said
    await db.execute("DELETE FROM held_facts WHERE group_name = $1 AND order_id LIKE 'old%'", group.name)
    await courier.look(db, db)
    assert await _alarm(db, group) is None


async def test_an_alert_about_gaps_outlives_the_process_that_raised_it_and_is_cleared_by_the_next(
    ground: Ground, db: Connection, group: Group
) -> None:
    await _hold(db, group, 1, "gap", order="old", age="1 hour")
    await Courier(group, ground.settings).look(db, db)
    assert await _alarm(db, group) is not None
    await db.execute("DELETE FROM held_facts WHERE group_name = $1", group.name)
    await Courier(group, ground.settings).look(db, db)
    assert await _alarm(db, group) is None


async def test_evidence_that_kafka_has_no_more_is_forgotten(ground: Ground, db: Connection, group: Group) -> None:
    await _hold(db, group, 1, "failed", skipped_at=datetime(2020, 1, 1, tzinfo=UTC))
    await _hold(db, group, 2, "failed", skipped_at=datetime.now(UTC))
    await _hold(db, group, 3, "failed", age="1000 days")
    await Courier(group, ground.settings).look(db, db)
    left = await db.fetch("SELECT kafka_offset FROM held_facts WHERE group_name = $1 ORDER BY 1", group.name)
    assert [row["kafka_offset"] for row in left] == [2, 3]
