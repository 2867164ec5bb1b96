"""Automatic fixes under SIGKILL between every two steps, and with as many open letters as a bad week leaves behind."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapters.postgres import connect
from orders.names import State
from outbox.letters.fixing import step
from outbox.letters.model import LetterState
from tests.integration.replays_ground import clean, failed, letter, now, outbox, park
from tests.integration.test_letters_fixing import HOUR, SMS, audited, desk, fixed, ruled, uses
from tests.integration.workers_ground import Ground, ground
from tests.making import REPOSITORY, eventually, placed, walked

__all__ = ["clean", "desk", "ground"]

MANY = 100_000
KEEPER = """
import asyncio, sys
from datetime import UTC, datetime
from adapters.postgres import open_pool
from adapters.settings import Settings
from outbox.letters.fixing import step

async def main():
    settings = Settings(postgres_dsn=sys.argv[1])
    async with open_pool(settings.postgres_dsn, service="killed", size=2) as pool:
        await step(pool, settings, datetime.now(UTC))

asyncio.run(main())
"""
# What a keeper has to get past, one after the other; held by somebody else, it stops there.
PLACES = {
    "the rule": "SELECT FROM letter_rules FOR UPDATE",
    "the order": "SELECT FROM orders FOR UPDATE",
    "the letter": "SELECT FROM dead_letters FOR UPDATE",
    "the message": "LOCK TABLE outbox IN SHARE MODE",
    "the history": "LOCK TABLE letter_history IN SHARE MODE",
    "the audit trail": "LOCK TABLE order_events IN SHARE MODE",
    "the use": "LOCK TABLE letter_rule_uses IN SHARE MODE",
}
ACTIONS: dict[str, Any] = {
    "replay": {"do": "replay"},
    "patch": {"do": "patch", "patch": {"template": "refunded"}},
    "delay": {"do": "delay", "for_s": 900},
    "discard": {"do": "discard", "reason": "old"},
    "compensate": {"do": "compensate", "reason": "failed_message"},
}


@asynccontextmanager
async def held(desk: Ground, statement: str) -> AsyncIterator[None]:
    async with connect(desk.settings.migrate_url, service="tests") as owner, owner.transaction():
        await owner.execute(statement)
        yield


async def waits_for_a_lock(desk: Ground) -> None:
    count = await desk.pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rushline-killed' AND wait_event_type = 'Lock'"
    )
    assert count == 1


async def gone(desk: Ground) -> None:
    assert not await desk.pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rushline-killed'")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("action", ACTIONS)
async def test_a_keeper_that_is_killed_has_done_nothing_and_the_next_one_does_all_of_it_once(
    desk: Ground, place: str, action: str
) -> None:
    order = await walked(desk.pool, State.RESTAURANT_ACCEPTED)
    await ruled(desk, ACTIONS[action], {**SMS, "max_generation": 2})
    (key,) = await park(desk, failed(order))
    sends = action in ("replay", "patch", "compensate")
    if place == "the message" and not sends:
        place = "the letter"  # these publish nothing
    already, before = len(await outbox(desk)), await letter(desk, key)
    async with held(desk, PLACES[place]):
        keeper = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KEEPER, desk.settings.postgres_dsn, cwd=REPOSITORY
        )  # fmt: skip
        await eventually(lambda: waits_for_a_lock(desk))
        keeper.send_signal(signal.SIGKILL)
        await keeper.wait()
    await eventually(lambda: gone(desk))
    assert await letter(desk, key) == before
    assert await uses(desk) == []
    assert await audited(desk, order.order_id) == []
    assert len(await outbox(desk)) == already
    assert await desk.pool.fetchval("SELECT count(*) FROM letter_history") == 0

    assert await fixed(desk) == 1
    assert [(who, generation) for who, generation, _ in await uses(desk)] == [(key, 1)]
    assert len(await audited(desk, order.order_id)) == 1
    assert len(await outbox(desk)) == already + sends
    assert await fixed(desk) == 0
    assert len(await outbox(desk)) == already + sends


async def test_a_step_costs_the_same_with_a_hundred_thousand_open_letters(desk: Ground) -> None:
    """Prints what it measured: run it with -s."""
    await _many(desk)
    await ruled(desk, {"do": "discard", "reason": "x"}, {**SMS, "body": [{"path": "$.template", "equals": "none"}]}, name="a")
    looked: list[float] = []
    while await desk.pool.fetchval("SELECT count(*) FROM letter_rule_queue") > MANY - 4_000:
        began = time.perf_counter()
        await step(desk.pool, desk.settings, now())
        looked.append(time.perf_counter() - began)
    await desk.pool.execute("DELETE FROM letter_rule_queue")
    await desk.pool.execute("UPDATE letter_rule_sweep SET under_way = false")
    idle = await _measured(desk, 20)
    await ruled(desk, {"do": "discard", "reason": "x"}, {**SMS, "body": [{"path": "$.template", "equals": "t7"}]}, name="b")
    await desk.pool.execute("UPDATE letter_rule_sweep SET under_way = false")
    (key,) = await park(desk, failed(await placed(desk.pool), template="t7"))
    one = await _measured(desk, 1)
    assert (await letter(desk, key)).state is LetterState.DISCARDED
    limited = await ruled(desk, {"do": "replay"}, {**SMS, "max_generation": 1}, name="c", per_hour=100)
    swept = await _measured(desk, 100)
    assert len([key for key, _, outcome in await uses(desk) if outcome == "sent"]) == 100 == limited.per_hour
    worst = {"looking at 200": max(looked), "nothing due": max(idle), "one fix": one[0], "a second look": max(swept)}
    typical = {"looking at 200": sorted(looked)[len(looked) // 2], "nothing due": sorted(idle)[len(idle) // 2]}
    print(  # noqa: T201  # the measurement
        {name: round(value * 1_000, 1) for name, value in worst.items()}, "ms at worst;",
          {name: round(value * 1_000, 1) for name, value in typical.items()}, "ms in the middle")  # fmt: skip
    assert sorted(looked)[len(looked) // 2] < 0.5
    assert sorted(idle)[len(idle) // 2] < 0.1
    assert sorted(swept)[len(swept) // 2] < 1.5


async def _measured(desk: Ground, times: int) -> list[float]:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await step(desk.pool, desk.settings, now())
        took.append(time.perf_counter() - began)
    return took


async def _many(desk: Ground) -> None:
    """Open letters of one group, as if they had been recorded, each with a message of its own."""
    pattern = failed(await placed(desk.pool), failed_at=now() - HOUR)
    await park(desk, pattern)
    async with connect(desk.settings.migrate_url, service="tests") as owner:
        await owner.execute(
            """INSERT INTO dead_letters (letter_id, source, message_id, consumer, queue, order_id, type, schema_version, position,
                   routing_key, priority, headers, body, failure_type, category, reason, error, message, stack, fingerprint,
                   attempts, first_failed_at, last_failed_at, parked_at)
               SELECT letter_id || n, source, overlay(message_id PLACING lpad(to_hex(n), 12, '0') FROM 29), consumer, queue,
                   NULL, type, schema_version, position, routing_key, priority, headers, body, failure_type, category, reason,
                   error, message, stack, fingerprint, attempts, first_failed_at, last_failed_at - n * interval '1 ms', parked_at
               FROM dead_letters, generate_series(1, $1) AS n""",
            MANY,
        )
        await owner.execute("UPDATE letter_groups SET open = open + $1, total = total + $1", MANY)
        await owner.execute("ANALYZE dead_letters, letter_rule_queue, letter_groups")
