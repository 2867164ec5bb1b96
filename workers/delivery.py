"""The only place for one delivery's whole life: read → load → handle → commit → verdict."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Final, assert_never

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    retry_if_exception_type,
    wait_random,
    wait_random_exponential,
)

from adapters.postgres import DatabaseUnavailable, Pool
from adapters.rabbitmq import BrokerUnavailable, Refused, Unroutable
from adapters.rabbitmq_consumer import Delivery
from adapters.settings import Settings
from orders.commands import WakeOrder
from orders.decide import Cause, Change, Wish, decide, system
from orders.errors import AlreadyDone, CallAnOperator, LostRace, NotAllowed, NotFound, Stale
from orders.lifecycle import GIVEN_UP
from orders.names import Command
from orders.order import Order
from outbox.transition import Clock, finish, load, move, utc_now, waits
from workers import metrics, store
from workers.dispatch import handle
from workers.handlers.order_wake import order_wake
from workers.judge import Ack, Again, Park, Verdict, Wait, judge, reason_of, worth_a_quick_try
from workers.moves import Mover
from workers.outcome import Done, Forgotten, Nothing, Remember, Step
from workers.ports import Ports
from workers.task import Task, attempts, read

_MOST_STEPS: Final = 8  # a handler that wants more goes round in circles
_MORE_TRIES: Final = 2
_QUICK_S: Final = 0.3
_MORE_RACES: Final = 4
_BROKER_AWAY: Final = (BrokerUnavailable, Refused, Unroutable)
_REASON_GIVEN_UP: Final = {
    Command.PAYMENT_CHARGE: "payment_timeout",
    Command.RESTAURANT_NOTIFY: "restaurant_unreachable",
    Command.DRIVER_DISPATCH: "no_driver",
}

log = structlog.get_logger()


class GoesInCircles(CallAnOperator):
    """A handler wants one step more than any command has."""

    slug = "goes-in-circles"


class Worker:
    """Does commands. `take` is the handler of every queue; it settles the delivery and raises nothing but cancellation."""

    def __init__(
        self, pool: Pool, ports: Ports, mover: Mover, settings: Settings, stop: asyncio.Event, clock: Clock = utc_now
    ) -> None:
        self._pool, self._ports, self._mover, self._stop, self._clock = pool, ports, mover, stop, clock
        self._wait = waits(settings)

    async def take(self, delivery: Delivery) -> None:
        """Do what the delivery asks for, once, or find the right place for it; then acknowledge it."""
        began, task, error = perf_counter(), None, None
        verdict: Verdict = Ack()
        try:
            task = read(delivery)
            await self._patiently(delivery, (DatabaseUnavailable,), self._quickly, task)
        except Exception as failure:  # noqa: BLE001  # whatever it is, `judge` has a place for it
            error, verdict = failure, judge(failure, attempts(delivery.headers) + 1)
        if error is not None:
            verdict = await self._place(delivery, task, verdict, error)
        if isinstance(verdict, Again):
            await delivery.release()
        else:
            await delivery.ack()
        _tell(delivery, task, verdict, error, perf_counter() - began)

    async def _quickly(self, task: Task) -> None:
        """A few tries within a moment: most failures are over by then, and a tier would cost a minute."""
        began = perf_counter()
        try:
            return await self._carry_out(task)  # the first one bare: tenacity costs as much as the command does
        except Exception as error:
            slow = perf_counter() - began > _QUICK_S and not isinstance(error, LostRace)
            if slow or not worth_a_quick_try(error):
                raise
        await self._pause(random.uniform(0.01, 0.1))  # noqa: S311  # jitter
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(worth_a_quick_try),
            stop=_tried_enough,
            wait=wait_random(0.01, 0.1),
            sleep=self._pause,
            reraise=True,
        ):
            with attempt:
                await self._carry_out(task)
        return None

    async def _carry_out(self, task: Task) -> None:
        """From the load to the last commit. Entered again after a crash, it goes on where it stopped."""
        if isinstance(task.body, WakeOrder):  # of an order that need not exist, and is not changed
            await order_wake(task.body, self._ports.held)
            return
        order, done = await load(self._pool, task.body.order_id, task.id)
        try:
            await self._steps(task, order, done=done)
        except (AlreadyDone, NotAllowed) as late:
            if task.id in order.pending:
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
        return decide(order, wish, _cause(task, last=last), self._clock(), self._wait)

    async def _place(self, delivery: Delivery, task: Task | None, verdict: Verdict, error: BaseException) -> Verdict:
        """Put a failed message where it belongs. `Again` where that is not possible now."""
        now = self._clock()
        try:
            match verdict:
                case Wait():
                    await self._patiently(delivery, _BROKER_AWAY, self._mover.to_tier, delivery, verdict, error, now)
                case Park():
                    await self._patiently(delivery, _BROKER_AWAY, self._mover.to_dead_queue, delivery, verdict, error, now)
                    if task is not None:
                        await self._patiently(delivery, (DatabaseUnavailable, LostRace), self._give_up, task)
                case Ack() | Again():
                    pass
                case _:
                    assert_never(verdict)
        except (*_BROKER_AWAY, DatabaseUnavailable, LostRace):
            return Again()
        return verdict

    async def _give_up(self, task: Task) -> None:
        """What becomes of the order: it ends well by the lifecycle's `GIVEN_UP`, or waits for the operator."""
        action = GIVEN_UP.get(task.kind)
        if action is None:
            await store.stop_watching(self._pool, task.body.order_id, task.id)
            return

        def wish(order: Order) -> Wish:
            if task.id not in order.pending:
                raise Stale(f"the order no longer waits for {task.id}")
            return Wish(action=action, reason=_REASON_GIVEN_UP[task.kind])

        with suppress(NotAllowed, NotFound, Stale):
            cause = _cause(task, last=True)
            await move(self._pool, task.body.order_id, wish, cause, self._wait, clock=self._clock)

    async def _patiently(
        self,
        delivery: Delivery,
        away: tuple[type[Exception], ...],
        work: Callable[..., Awaitable[None]],
        *arguments: object,
    ) -> None:
        """In place until it works: nothing here is the message's fault. Raises only when we stop or the message is lost."""
        try:
            return await work(*arguments)
        except away as error:
            log.warning("a command waits in place", error=reason_of(error), detail=str(error)[:200])
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(away),
            stop=lambda _: self._stop.is_set() or delivery.lost,
            wait=wait_random_exponential(0.1, max=2),
            sleep=self._pause,
            reraise=True,
        ):
            with attempt:
                await work(*arguments)
        return None

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


def _cause(task: Task, *, last: bool) -> Cause:
    return Cause(
        id=task.id,
        actor=system(task.service),
        service=task.service,
        traceparent=task.traceparent,
        command=task.kind,
        last=last,
    )


def _tried_enough(state: RetryCallState) -> bool:
    """A lost race costs nobody anything and is run often; anything else gets two more tries within 300 ms."""
    if state.outcome is not None and isinstance(state.outcome.exception(), LostRace):
        return state.attempt_number >= _MORE_RACES
    return state.attempt_number >= _MORE_TRIES or (state.seconds_since_start or 0) >= _QUICK_S


def _tell(delivery: Delivery, task: Task | None, verdict: Verdict, error: BaseException | None, took_s: float) -> None:
    """Count it; write down what did not simply go well. Ids and error names only, nothing of a person."""
    kind = task.kind.value if task else metrics.UNREADABLE
    match verdict:
        case Ack(why):
            label = why
        case _:
            label = type(verdict).__name__.lower()
    metrics.COMMANDS.labels(kind, label).inc()
    metrics.SECONDS.labels(kind).observe(took_s)
    if error is None:
        return
    if label == Stale.slug:
        metrics.STALE.labels(kind).inc()
    metrics.FAILURES.labels(kind, reason_of(error)).inc()
    level = log.info if isinstance(verdict, Ack) else log.error if isinstance(verdict, Park) else log.warning
    level(
        "a command was not simply done", verdict=label, command=kind, message_id=delivery.message_id, queue=delivery.queue,
        order_id=task.body.order_id if task else None, attempt=attempts(delivery.headers) + 1,
        error=type(error).__name__, reason=reason_of(error), detail=str(error)[:200],
        exc_info=error if reason_of(error) == "unknown" else None,
    )  # fmt: skip
