"""The letters' process empties both dead queues into the table: once each, whatever dies or is away meanwhile."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import msgspec

from adapters.postgres import connect
from adapters.rabbitmq import open_publisher
from adapters.settings import Settings
from orders.names import DEAD_LETTERS, POISON, Command, Queue
from outbox.letters.model import LetterState
from outbox.letters.parked import Parked
from tests.fake_ports import FakePorts
from tests.integration.letters_ground import assert_counted, at, id_of, letter, parked
from tests.integration.replays_ground import clean
from tests.integration.workers_ground import Ground, ground
from tests.making import REPOSITORY, eventually, placed
from tests.proxy import Proxy, proxy_to
from workers.letters import run

__all__ = ["clean", "ground"]


@asynccontextmanager
async def taking_in(settings: Settings, processes: int = 1) -> AsyncIterator[None]:
    """The letters' processes, in this one, meanwhile. They must end by themselves once stopped."""
    stop = asyncio.Event()
    running = [asyncio.create_task(run(settings, stop)) for _ in range(processes)]
    try:
        yield
        assert not any(task.done() for task in running), running
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*running), 20)


async def dead(ground: Ground, messages: Sequence[Parked]) -> None:
    """Put into their dead queues, as a worker's confirmed move does it."""
    async with open_publisher(ground.settings.rabbitmq_url, service="tests", timeout_ms=10_000) as publisher:
        for first in range(0, len(messages), 200):
            await asyncio.gather(
                *(
                    publisher.publish(
                        m.queue, m.routing_key, m.body, dict(m.headers), m.priority, m.message_id or f"{first}-{n}"
                    )
                    for n, m in enumerate(messages[first : first + 200])
                )
            )


async def _emptied(ground: Ground, letters: int) -> None:
    async def check() -> None:
        assert await ground.pool.fetchval("SELECT count(*) FROM dead_letters") == letters
        assert [await ground.depth(queue) for queue in (DEAD_LETTERS, POISON)] == [0, 0]

    await eventually(check, 60)
    await assert_counted(ground.pool)


async def test_what_lies_in_either_dead_queue_becomes_a_letter(clean: Ground) -> None:
    messages = [parked(), parked(Command.PAYMENT_REFUND), parked(Command.PAYMENT_CHARGE, poison=True, body=b"\x00\xff")]
    await dead(clean, messages)
    async with taking_in(clean.settings):
        await _emptied(clean, 3)
    assert (await letter(clean.pool, id_of(messages[2]))).body == b"\x00\xff"


async def test_a_body_of_ten_megabytes_is_a_letter_with_each_of_its_bytes(clean: Ground) -> None:
    body = os.urandom(10_000_000)
    message = parked(poison=True, body=body)
    await dead(clean, [message])
    async with taking_in(clean.settings):
        await _emptied(clean, 1)
    assert (await letter(clean.pool, id_of(message))).body == body


async def test_a_command_that_nobody_can_read_goes_the_whole_way_from_its_queue_to_a_letter(clean: Ground) -> None:
    await clean.publish(Command.PAYMENT_CHARGE.value, b"\x00\xffnot JSON", {"cloudEvents_type": "payment.charge"}, key="nobody")
    async with clean.working(FakePorts(), Queue.PAYMENTS), taking_in(clean.settings):
        await _emptied(clean, 1)
    (row,) = await clean.pool.fetch("SELECT consumer, category, body, type FROM dead_letters")
    assert tuple(row) == ("payments", "poison", b"\x00\xffnot JSON", "payment.charge")


async def test_two_processes_share_the_work_and_each_message_is_one_letter(clean: Ground) -> None:
    await dead(clean, [parked(error=f"Trouble{n % 4}") for n in range(600)])
    async with taking_in(clean.settings, processes=2):
        await _emptied(clean, 600)


async def test_a_database_that_is_away_makes_letters_wait_and_loses_none(clean: Ground) -> None:
    target = urlsplit(clean.settings.postgres_dsn)
    async with proxy_to(target.hostname or "", target.port or 0) as proxy:
        away = target._replace(netloc=f"{target.username}:{target.password}@127.0.0.1:{proxy.port}").geturl()
        async with taking_in(msgspec.structs.replace(clean.settings, postgres_dsn=away)):
            await dead(clean, [parked()])
            await _emptied(clean, 1)
            proxy.cut()
            await dead(clean, [parked() for _ in range(50)])
            assert await clean.pool.fetchval("SELECT count(*) FROM dead_letters") == 1
            proxy.mend()
            await _emptied(clean, 51)


async def test_a_broker_that_is_away_is_waited_for(clean: Ground) -> None:
    async with _through(clean.settings) as (proxy, settings), taking_in(settings):
        await dead(clean, [parked()])
        await _emptied(clean, 1)
        proxy.cut()
        await dead(clean, [parked() for _ in range(50)])
        proxy.mend()
        await _emptied(clean, 51)


@asynccontextmanager
async def _through(settings: Settings) -> AsyncIterator[tuple[Proxy, Settings]]:
    target = urlsplit(settings.rabbitmq_url)
    async with proxy_to(target.hostname or "", target.port or 0) as proxy:
        netloc = f"{target.username}:{target.password}@127.0.0.1:{proxy.port}"
        yield proxy, msgspec.structs.replace(settings, rabbitmq_url=target._replace(netloc=netloc).geturl())


@asynccontextmanager
async def _process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    ours = {
        f"RUSHLINE_{name.upper()}": getattr(settings, name)
        for name in ("postgres_dsn", "rabbitmq_url", "rabbitmq_management_url", "kafka_bootstrap")
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("RUSHLINE_")}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "workers.letters", cwd=REPOSITORY, env=others | ours)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_process_that_is_killed_between_its_commit_and_its_acknowledgement_leaves_each_letter_once(
    clean: Ground,
) -> None:
    messages = [parked(error=f"Trouble{n % 3}") for n in range(100)]
    async with AsyncExitStack() as stack:
        proxy, settings = await stack.enter_async_context(_through(clean.settings))
        process = await stack.enter_async_context(_process(settings))
        await dead(clean, [parked()])
        await _emptied(clean, 1)
        proxy.deafen()  # no acknowledgement arrives from now on
        await dead(clean, messages)

        async def committed() -> None:
            assert await clean.pool.fetchval("SELECT count(*) FROM dead_letters") == 101

        await eventually(committed, 60)
        process.kill()
        await process.wait()

    async def given_back() -> None:
        assert await clean.depth(DEAD_LETTERS) == 100

    await eventually(given_back, 60)
    before = await clean.pool.fetch("SELECT * FROM dead_letters ORDER BY letter_id")
    async with taking_in(clean.settings):
        await _emptied(clean, 101)
    assert await clean.pool.fetch("SELECT * FROM dead_letters ORDER BY letter_id") == before


async def test_a_process_that_is_told_to_stop_gives_back_what_it_has_not_recorded(clean: Ground) -> None:
    async with _process(clean.settings) as process:
        await dead(clean, [parked()])
        await _emptied(clean, 1)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    await dead(clean, [parked()])
    async with taking_in(clean.settings):
        await _emptied(clean, 2)


async def test_a_letter_that_the_database_refuses_does_not_keep_the_others_out(clean: Ground) -> None:
    """Nothing that a message can hold is refused; a table that an operator bends is, and then only its letters wait."""
    await _alter(clean, "ADD CONSTRAINT bent CHECK (error <> 'Bent')")
    try:
        async with taking_in(clean.settings):
            await dead(clean, [parked(error="Bent"), *(parked() for _ in range(20))])

            async def others() -> None:
                assert await clean.pool.fetchval("SELECT count(*) FROM dead_letters") == 20

            await eventually(others, 60)
            await _alter(clean, "DROP CONSTRAINT bent")
            await _emptied(clean, 21)
    finally:
        await _alter(clean, "DROP CONSTRAINT IF EXISTS bent")


async def _alter(ground: Ground, change: str) -> None:
    async with connect(ground.settings.migrate_url, service="tests") as owner:
        await owner.execute(f"ALTER TABLE dead_letters {change}")


async def test_a_burst_of_five_thousand_failures_is_recorded_within_seconds(clean: Ground) -> None:
    """Through the real queue. `rushline bench --only letters` says how many a second; this only holds the order of magnitude."""
    await dead(clean, [parked(error=f"Trouble{n % 5}") for n in range(5_000)])
    began = time.perf_counter()
    async with taking_in(clean.settings):

        async def recorded() -> None:
            assert await clean.pool.fetchval("SELECT count(*) FROM dead_letters") == 5_000

        await eventually(recorded, 60)
        assert time.perf_counter() - began < 30
        await _emptied(clean, 5_000)


async def test_a_letter_whose_order_was_compensated_is_superseded_soon_after(clean: Ground) -> None:
    """A charge that nobody could do: parked, its order given up, the letter says what came first."""
    order = await placed(clean.pool)
    fakes = FakePorts()
    fakes.payments.before["create"] = [RuntimeError("no")] * 1_000
    async with clean.working(fakes, Queue.PAYMENTS), taking_in(clean.settings):
        await clean.send(order, Command.PAYMENT_CHARGE)

        async def superseded() -> None:
            rows = await clean.pool.fetch(
                "SELECT state, resolution, letter_id FROM dead_letters WHERE order_id = $1 AND source = 'command'",
                order.order_id,
            )
            assert [(row["state"], row["resolution"]) for row in rows] == [(LetterState.RESOLVED, "superseded")]

        await eventually(superseded, 60)
    (row,) = await clean.pool.fetch("SELECT detail FROM letter_history WHERE action = 'resolved'")
    assert row["detail"]["by"] == "payment.failed"
    await assert_counted(clean.pool)


async def test_a_redelivered_copy_changes_nothing(clean: Ground) -> None:
    message = parked(minute=1)
    await dead(clean, [message, message])
    async with taking_in(clean.settings):
        await _emptied(clean, 1)
    assert (await letter(clean.pool, id_of(message))).parked_at == at(1)
