"""The only place for one delivery's whole life: read → load → handle → commit → verdict."""

import asyncio
import random
from time import perf_counter
from typing import Final, assert_never

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random

from adapters.postgres import DatabaseUnavailable, Pool
from adapters.rabbitmq import BrokerUnavailable, Refused, Unroutable
from adapters.rabbitmq_consumer import Delivery
from adapters.settings import Settings
from orders.commands import CancelOrder, WakeOrder
from orders.decide import Change, Wish, decide
from orders.errors import AlreadyDone, CallAnOperator, LostRace, NotAllowed, Stale
from orders.failures import FailureType
from orders.ids import is_id
from orders.order import Order
from orders.parking import LETTER
from outbox.letters.settling import settle
from outbox.transition import Clock, finish, load, utc_now, waits
from workers import metrics, store, trail
from workers.dispatch import handle
from workers.giving_up import cause_of, give_up
from workers.handlers.order_wake import order_wake
from workers.isolation import MOST_STARTS, KillsItsWorker, Suspects, Turns
from workers.judge import Ack, Again, Park, Verdict, Wait, judge, worth_a_quick_try
from workers.moves import Mover
from workers.outcome import Done, Forgotten, Nothing, Remember, Step
from workers.patience import Patience
from workers.ports import Ports
from workers.retry_budget import RetryBudget
from workers.task import Task, named, read
from workers.telling import tell

_MOST_STEPS: Final = 8  # a handler that wants more goes round in circles
_MORE_TRIES: Final = 2
_QUICK_S: Final = 0.3
_PAUSE_S: Final = (0.005, 0.02)  # a pause holds one of few places: long enough for a blip, and no longer
_MORE_RACES: Final = 4
_BROKER_AWAY: Final = (BrokerUnavailable, Refused, Unroutable)


class GoesInCircles(CallAnOperator):
    """A handler wants one step more than any command has."""

    slug = "goes-in-circles"
    failure = FailureType.UNKNOWN


_End = tuple[Task | None, Verdict, BaseException | None]


class Worker:
    """Does commands. `take` is the handler of every queue; it settles the delivery and raises nothing but cancellation."""

    def __init__(
        self, pool: Pool, ports: Ports, mover: Mover, settings: Settings, stop: asyncio.Event, clock: Clock = utc_now
    ) -> None:
        self._pool, self._ports, self._mover, self._stop, self._clock = pool, ports, mover, stop, clock
        self._wait, self._patience = waits(settings), Patience(stop)
        self._turns, self._suspects, self._budget = Turns(), Suspects(pool), RetryBudget()

    async def take(self, delivery: Delivery) -> None:
        """Do what the delivery asks for, once, or find the right place for it; then acknowledge it."""
        began = perf_counter()
        if self._suspects.is_one(delivery):
            task, verdict, error = await self._alone(delivery)
        else:
            async with self._turns.turn(alone=False):
                task, verdict, error = await self._whole(delivery)
        if isinstance(verdict, Again):
            self._suspects.put_back(delivery)
            await delivery.release()
        else:
            await delivery.ack()
        tell(delivery, task, verdict, error, perf_counter() - began)

    async def _alone(self, delivery: Delivery) -> _End:
        """With nobody beside it, and on record: if it kills us, everybody knows which one it was."""
        async with self._turns.turn(alone=True):
            if self._stop.is_set():
                return None, Again(), None
            metrics.ALONE.labels(delivery.queue).inc()
            away = (DatabaseUnavailable,)
            try:
                times = await self._patience.until_done(delivery, away, self._suspects.begin, delivery, self._clock())
            except DatabaseUnavailable as error:
                return None, Again(), error
            try:
                return await self._whole(delivery, deadly=times > MOST_STARTS)
            finally:
                await self._suspects.end(delivery)

    async def _whole(self, delivery: Delivery, *, deadly: bool = False) -> _End:
        """All but the acknowledgement. `deadly`: not even looked into."""
        task, error = None, None
        verdict: Verdict = Ack()
        try:
            if deadly:
                raise KillsItsWorker(f"its worker died {MOST_STARTS} times with nothing else in hand")  # noqa: TRY301  # judged as any other
            task = read(delivery)
            await self._patience.until_done(delivery, (DatabaseUnavailable,), self._quickly, task)
        except Exception as failure:  # noqa: BLE001  # whatever it is, `judge` has a place for it
            error, verdict = failure, self._judged(delivery, failure)
        return task, await self._place(delivery, task, verdict, error), error

    def _judged(self, delivery: Delivery, error: Exception) -> Verdict:
        waited_s = trail.waited_s(delivery.headers, self._clock(), self._mover.time_scale)
        return judge(error, trail.attempt_number(delivery.headers, error), waited_s=waited_s)

    async def _quickly(self, task: Task) -> None:
        """A few tries within a moment: most failures are over by then, and a tier would cost a minute."""
        began = perf_counter()
        try:
            await self._carry_out(task)  # the first one bare: tenacity costs as much as the command does
        except Exception as error:
            slow = perf_counter() - began > _QUICK_S and not isinstance(error, LostRace)
            if slow or not self._once_more(error):
                raise
        else:
            self._budget.succeeded()
            return
        await self._patience.pause(random.uniform(*_PAUSE_S))  # noqa: S311  # jitter
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(self._once_more),
            stop=_tried_enough,
            wait=wait_random(*_PAUSE_S),
            sleep=self._patience.pause,
            reraise=True,
        ):
            with attempt:
                await self._carry_out(task)

    def _once_more(self, error: BaseException) -> bool:
        return worth_a_quick_try(error) and (isinstance(error, LostRace) or self._budget.afford())

    async def _carry_out(self, task: Task) -> None:
        """From the load to the last commit. Entered again after a crash, it goes on where it stopped."""
        if isinstance(task.body, WakeOrder):  # of an order that need not exist, and is not changed
            await order_wake(task.body, self._ports.held)
            return
        order, done = await load(self._pool, task.body.order_id, task.id)
        try:
            await self._steps(task, order, done=done)
        except (AlreadyDone, NotAllowed) as late:
            # What no order waits for is watched elsewhere, until the inbox has it.
            if task.id in order.pending or (isinstance(task.body, CancelOrder) and not done):
                await finish(self._pool, order.order_id, task.id, self._clock())
            if isinstance(late, NotAllowed):
                raise Stale(str(late)) from late
            raise

    async def _steps(self, task: Task, order: Order, *, done: bool) -> None:
        """Duplicate first, legality second: a command that was done is one, whatever its order may be now."""
        if done:
            raise AlreadyDone(f"{task.id} was done before")
        again = True  # somebody may have worked on it before: look before acting
        for _ in range(_MOST_STEPS):
            now = self._clock()
            outcome = await handle(task, order, self._ports, again=again, now=now)
            match outcome:
                case Step(wish):
                    order = await store.commit(self._pool, self._change(task, order, wish, last=False), done_command=None)
                    again = False
                case Remember(payment_attempt, then):
                    await store.remember_attempt(self._pool, order.order_id, payment_attempt)
                    raise then
                case Done(wish, also):
                    change = self._change(task, order, wish, last=True)
                    await store.commit(self._pool, change, done_command=task.id, also=also)
                    return
                case Nothing(also):
                    await store.finish_and_tell(self._pool, order, task.id, also, now)
                    return
                case Forgotten():
                    return
                case _:
                    assert_never(outcome)
        raise GoesInCircles(f"{task.kind.value} is not done after {_MOST_STEPS} steps")

    def _change(self, task: Task, order: Order, wish: Wish, *, last: bool) -> Change:
        return decide(order, wish, cause_of(task, last=last), self._clock(), self._wait)

    async def _place(self, delivery: Delivery, task: Task | None, verdict: Verdict, error: BaseException | None) -> Verdict:
        """Put a message where it belongs. `Again` where that is not possible now.

        Each step can be made twice, so it may be interrupted after any of them: a copy in a tier or in a dead queue has the
        same id, and an order that was given up no longer waits for the command.
        """
        now, patiently = self._clock(), self._patience.until_done
        try:
            match verdict:
                case Wait() if error is not None:
                    await patiently(delivery, _BROKER_AWAY, self._mover.to_tier, delivery, verdict, error, now)
                case Park() if error is not None:
                    await patiently(delivery, _BROKER_AWAY, self._mover.to_dead_queue, delivery, verdict, error, now)
                    # What cannot be read says nothing; the watchdog issues its command again. What kills would kill again.
                    command = task or (named(delivery.headers) if isinstance(error, KillsItsWorker) else None)
                    if command is not None:
                        away = (DatabaseUnavailable, LostRace)
                        await patiently(delivery, away, give_up, self._pool, command, self._wait, self._clock)
                case Ack(why):
                    letter = delivery.headers.get(LETTER)
                    if isinstance(letter, str) and is_id(letter, "let"):
                        await patiently(delivery, (DatabaseUnavailable,), settle, self._pool, letter, outcome=why, now=now)
                case _:
                    return verdict
        except (*_BROKER_AWAY, DatabaseUnavailable, LostRace):
            return Again()
        return verdict


def _tried_enough(state: RetryCallState) -> bool:
    """A lost race costs nobody anything and is run often; anything else gets two more tries within 300 ms."""
    if state.outcome is not None and isinstance(state.outcome.exception(), LostRace):
        return state.attempt_number >= _MORE_RACES
    return state.attempt_number >= _MORE_TRIES or (state.seconds_since_start or 0) >= _QUICK_S
