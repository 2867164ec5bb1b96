"""The keeper: one at a time, each job in turn, none stopped by another; and what supersedes letters."""

import asyncio
from datetime import UTC, datetime

from prometheus_client import REGISTRY

from adapters.postgres import DatabaseUnavailable
from orders.lifecycle import Action
from orders.names import Command, State
from outbox.letters.keeper import Keeper, Step, steps
from outbox.letters.model import LetterState
from outbox.letters.superseding import Superseding
from outbox.letters.watch import step as watch
from outbox.transition import apply
from tests.integration.letters_ground import assert_counted, at, id_of, letter, parked, record
from tests.integration.replays_ground import clean
from tests.integration.workers_ground import Ground, ground
from tests.making import change_of, eventually, placed, walked

__all__ = ["clean", "ground"]


class Job:
    """Counts how often it is done; fails the first times."""

    def __init__(self, *failures: Exception) -> None:
        self.done, self._failures = 0, list(failures)

    async def __call__(self, now: datetime) -> int:
        assert now.tzinfo is UTC
        if self._failures:
            raise self._failures.pop(0)
        self.done += 1
        return 0


async def test_a_job_that_fails_does_not_stop_the_others_and_is_tried_again(clean: Ground) -> None:
    bad, good = Job(ValueError("a bug"), DatabaseUnavailable("away")), Job()
    keeper = Keeper(clean.pool, clean.settings, {"bad": Step(bad), "good": Step(good)})
    before = REGISTRY.get_sample_value("rushline_letters_step_failures_total", {"step": "bad", "error": "ValueError"}) or 0
    for _ in range(3):
        await keeper.step(datetime.now(UTC))
    assert (bad.done, good.done) == (1, 3)
    after = REGISTRY.get_sample_value("rushline_letters_step_failures_total", {"step": "bad", "error": "ValueError"})
    assert after == before + 1


async def test_a_job_of_now_and_then_is_not_done_each_time(clean: Ground) -> None:
    often, seldom = Job(), Job()
    keeper = Keeper(clean.pool, clean.settings, {"often": Step(often), "seldom": Step(seldom, 60.0)})
    for _ in range(3):
        await keeper.step(datetime.now(UTC))
    assert (often.done, seldom.done) == (3, 1)


async def test_only_one_keeper_works_and_the_other_takes_over(clean: Ground) -> None:
    jobs = [Job(), Job()]
    stops = [asyncio.Event(), asyncio.Event()]
    running = [
        asyncio.create_task(Keeper(clean.pool, clean.settings, {"job": Step(job)}).run(stop))
        for job, stop in zip(jobs, stops, strict=True)
    ]

    async def one_works() -> None:
        assert sum(job.done for job in jobs) >= 2

    await eventually(one_works)
    first = 0 if jobs[0].done else 1
    assert jobs[1 - first].done == 0
    stops[first].set()
    await running[first]

    async def the_other_works() -> None:
        assert jobs[1 - first].done > 0

    await eventually(the_other_works)
    stops[1 - first].set()
    await running[1 - first]


async def test_every_job_of_the_keeper_runs_on_an_empty_system(clean: Ground) -> None:
    jobs = steps(clean.pool, clean.settings)
    for job in jobs.values():
        await job.work(datetime.now(UTC))  # the library of fixes is put in place
    assert {name: await job.work(datetime.now(UTC)) for name, job in jobs.items()} == dict.fromkeys(jobs, 0)


async def test_letters_of_an_order_that_was_cancelled_are_superseded_and_say_by_what(clean: Ground) -> None:
    order = await walked(clean.pool, State.PAYMENT_CONFIRMED)
    (notify,) = order.pending
    late = [parked(order_id=order.order_id, key=notify), parked(Command.DRIVER_DISPATCH, order_id=order.order_id)]
    owed = [parked(kind, order_id=order.order_id) for kind in (Command.PAYMENT_REFUND, Command.RESTAURANT_CANCEL)]
    poison = parked(Command.PAYMENT_CHARGE, order_id=order.order_id, poison=True, body=b"\x00")
    nobody = parked(Command.PAYMENT_CHARGE)
    await record(clean.pool, *late, *owed, poison, nobody)
    assert await Superseding(clean.pool).step(at(1)) == 1  # no driver is looked for: there is no restaurant yet
    await apply(clean.pool, change_of(Action.CANCEL, order, datetime.now(UTC)))
    assert await Superseding(clean.pool).step(at(2)) == 1
    for message in late:
        now = await letter(clean.pool, id_of(message))
        assert (now.state, now.resolution, now.resolved_by) == (LetterState.RESOLVED, "superseded", "keeper")
    details = [
        row["detail"]
        for row in await clean.pool.fetch("SELECT detail FROM letter_history WHERE action = 'resolved' ORDER BY id")
    ]
    assert [detail["by"] for detail in details] == ["payment.confirmed", "order.cancelled"]
    for message in (*owed, poison, nobody):
        assert (await letter(clean.pool, id_of(message))).state is LetterState.OPEN
    assert await Superseding(clean.pool).step(at(3)) == 0
    await assert_counted(clean.pool)


async def test_a_letter_whose_command_was_done_by_a_copy_of_it_is_closed(clean: Ground) -> None:
    message = parked()
    await record(clean.pool, message)
    await clean.pool.execute("INSERT INTO inbox (message_id, done_at) VALUES ($1, $2)", message.message_id, at(1))
    assert await Superseding(clean.pool).step(at(2)) == 1
    now = await letter(clean.pool, id_of(message))
    assert (now.state, now.resolution) == (LetterState.RESOLVED, "done before")
    await assert_counted(clean.pool)


async def test_superseding_comes_round_to_every_letter_however_many_there_are(clean: Ground) -> None:
    order = await placed(clean.pool)
    old = parked(Command.DRIVER_DISPATCH, order_id=order.order_id, minute=-1_000)
    many = [parked(Command.NOTIFICATION_SMS, minute=n / 60) for n in range(1_200)]
    await record(clean.pool, old, *many)
    superseding = Superseding(clean.pool)
    closed = [await superseding.step(at(3_000)) for _ in range(4)]
    assert sum(closed) == 1
    assert (await letter(clean.pool, id_of(old))).state is LetterState.RESOLVED


async def test_the_gauges_say_how_many_letters_are_open_and_how_old_the_oldest_is(clean: Ground) -> None:
    await record(clean.pool, parked(minute=0), parked(minute=5), parked(Command.DRIVER_DISPATCH, minute=7))
    assert await watch(clean.pool, at(10)) == 3
    labels = {"consumer": "restaurants", "failure_type": "service_unavailable"}
    assert REGISTRY.get_sample_value("rushline_letters_open", labels) == 2
    assert REGISTRY.get_sample_value("rushline_letters_oldest_seconds") == 600
