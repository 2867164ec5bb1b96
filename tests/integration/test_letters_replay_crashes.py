"""The process that keeps letters is killed between every two steps of a replay: nothing is sent twice, nothing is forgotten."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from orders import parking
from orders.envelope import Broker
from orders.names import Queue
from outbox.letters import library, replays
from outbox.letters.model import LetterFilter
from outbox.letters.replays import Replay, ReplayState
from tests.fake_ports import FakePorts
from tests.integration.replays_ground import ANN, NumberBarred, clean, failed, now, outbox, park
from tests.integration.workers_ground import Ground, ground
from tests.making import REPOSITORY, eventually, placed, quick, relaying

__all__ = ["clean", "ground"]


@asynccontextmanager
async def _keeping(ground: Ground) -> AsyncIterator[None]:
    """The real process, killed at the end without a chance to say goodbye; its lease is given up for it, to save the wait."""
    environ = {
        **os.environ,
        "RUSHLINE_HOME": os.devnull,
        "RUSHLINE_POSTGRES_DSN": ground.settings.postgres_dsn,
        "RUSHLINE_RABBITMQ_URL": ground.settings.rabbitmq_url,
        "RUSHLINE_TIME_SCALE": "600",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers.letters", cwd=REPOSITORY, env=environ, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
        assert process.returncode is None
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await ground.pool.execute("UPDATE leases SET expires_at = '-infinity' WHERE name = 'letters'")


async def _replay(ground: Ground, count: int) -> Replay:
    await library.install(ground.pool, now())
    await ground.pool.execute("UPDATE letter_rules SET enabled = false")  # no rule sends them before the replay does
    order, at = await placed(ground.pool), now() - timedelta(hours=1)
    await park(ground, *(failed(order, number=n + 1, failed_at=at + timedelta(seconds=n)) for n in range(count)))
    await ground.pool.execute("DELETE FROM outbox")  # the order's own command
    return await replays.create(ground.pool, LetterFilter(), reason="a test", actor=ANN, now=now())


def _until(ground: Ground, replay: Replay, **wanted: object) -> Callable[[], Awaitable[None]]:
    async def there() -> None:
        shown = await replays.progress(ground.pool, replay.replay_id)
        assert {name: getattr(shown, name) for name in wanted} == wanted

    return there


async def _kept_until(ground: Ground, check: Callable[[], Awaitable[None]]) -> None:
    async with _keeping(ground):
        await eventually(check, 60)


async def _relayed(ground: Ground, depth: int) -> None:
    async def gone() -> None:
        assert await outbox(ground) == []
        assert await ground.depth(Queue.NOTIFICATIONS) == depth

    async with relaying(quick(ground.settings), (Broker.RABBITMQ,)):
        await eventually(gone)


async def _worked(ground: Ground, fakes: FakePorts, queue: str, left: int) -> None:
    async def done() -> None:
        assert await ground.depth(queue) == left

    async with ground.working(fakes, Queue.NOTIFICATIONS):
        await eventually(done)


async def test_killed_between_every_two_steps_it_goes_on_where_it_stopped(clean: Ground) -> None:
    fakes, replay = FakePorts(), await _replay(clean, 9)
    fakes.messages.always["sms"] = NumberBarred("still barred")
    # The canary: created, sent, relayed, failed and parked, recorded and so stopped.
    await _kept_until(clean, _until(clean, replay, sent=1, waiting=8))
    await _relayed(clean, 1)
    await _worked(clean, fakes, "orders.dlq", 1)
    await _kept_until(clean, _until(clean, replay, state=ReplayState.STOPPED, failed=1, waiting=8))
    fakes.messages.always.clear()
    # Resumed: five, done, then the rest.
    await replays.resume(clean.pool, replay.replay_id, actor=ANN, now=now())
    await _kept_until(clean, _until(clean, replay, sent=5, waiting=3, stage=1))
    await _relayed(clean, 5)
    await _worked(clean, fakes, Queue.NOTIFICATIONS, 0)
    await _kept_until(clean, _until(clean, replay, sent=3, done=5, waiting=0, stage=2))
    await _relayed(clean, 3)
    await _worked(clean, fakes, Queue.NOTIFICATIONS, 0)
    await _kept_until(clean, _until(clean, replay, state=ReplayState.DONE, sent=0, done=8, failed=1))
    sent = await clean.pool.fetch("SELECT letter_id FROM letter_history WHERE action = 'sent'")
    assert set(Counter(row["letter_id"] for row in sent).values()) == {1}
    told = Counter(key for *_, key in fakes.messages.named("sms"))
    assert len(told) == 9
    assert sorted(told.values()) == [1] * 9


async def test_killed_in_the_middle_of_a_slice_it_has_sent_nothing_and_sends_it_all_afterwards(clean: Ground) -> None:
    replay = await _replay(clean, 9)

    async def stuck() -> None:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rushline-worker-letters' AND wait_event_type = 'Lock'"
        assert await clean.pool.fetchval(waits) == 1

    async with clean.pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT FROM letter_replay_items WHERE replay_id = $1 FOR UPDATE", replay.replay_id)
        async with _keeping(clean):  # the letter is sent in its transaction already; its item cannot be marked
            await eventually(stuck, 60)

    async def gone() -> None:
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rushline-worker-letters'"
        assert await clean.pool.fetchval(left) == 0

    await eventually(gone)
    assert await outbox(clean) == []
    assert (await replays.progress(clean.pool, replay.replay_id)).waiting == 9
    await _kept_until(clean, _until(clean, replay, sent=1, waiting=8))
    assert len([row for row in await outbox(clean) if parking.LETTER in row.headers]) == 1
