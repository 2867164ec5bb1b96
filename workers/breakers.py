"""The only place that says which dependency stands behind which queue, and pauses the queue while it is away.

`payments` is nothing without the payment provider: while its breaker is open, the consumer is cancelled, what it held is back
in the queue, and no other queue notices.

`notifications` has two: SMS and pushes. It is paused while both are away. While only one is, pausing would hold up the other:
a driver's push about a trip is worth nothing in half an hour. So with SMS away, an SMS goes to a tier (no attempt is spent) and
pushes go on; with pushes away, each fails at once, as a message does that is sent once and not again, and SMS go on.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from adapters.breaker import Breaker
from adapters.circuit import Policy, State
from adapters.messaging import MessagingUnavailable
from adapters.payments import OutcomeUnknown, ProviderUnavailable
from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, Pool
from adapters.settings import Settings
from orders.names import Queue
from outbox.alerts import clear_alert, raise_alert

ALERT: Final = "breaker-open"
_TELL_AGAIN_S: Final = 2.0

log = structlog.get_logger()


class ProbesPayments(Protocol):
    async def probe(self) -> None: ...


class ProbesMessages(Protocol):
    async def probe_sms(self) -> None: ...
    async def probe_push(self) -> None: ...


class Pauses(Protocol):
    """What the breakers steer: a consumer."""

    def pause(self, queue: str) -> None: ...
    def resume(self, queue: str) -> None: ...


class Breakers:
    """A breaker for each dependency; those behind `queues` are watched. Enter it once; then `steer` the consumer."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        payments: ProbesPayments,
        messages: ProbesMessages,
        clock: Callable[[], datetime],
        queues: Collection[Queue] = tuple(Queue),
        policy: Policy | None = None,
    ) -> None:
        self._pool, self._clock = pool, clock
        away, patience_s = (MessagingUnavailable,), settings.messaging_timeout_ms / 1_000
        self.payments = Breaker(
            "payment-provider", payments.probe, points_at=(ProviderUnavailable, OutcomeUnknown),
            patience_s=settings.stripe_timeout_ms / 1_000, policy=policy,
        )  # fmt: skip
        self.sms = Breaker("sms", messages.probe_sms, points_at=away, patience_s=patience_s, policy=policy)
        self.push = Breaker("push", messages.probe_push, points_at=away, patience_s=patience_s, policy=policy)
        self._used = [
            breaker
            for breaker, users in (
                (self.payments, {Queue.PAYMENTS}),
                (self.sms, {Queue.NOTIFICATIONS}),
                (self.push, {Queue.NOTIFICATIONS, Queue.DRIVERS}),
            )
            if users.intersection(queues)
        ]
        self._told: dict[str, bool] = {}
        self._news = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for breaker in self._used:
            await self._stack.enter_async_context(breaker)
            breaker.listen(lambda _: self._news.set())
        telling = asyncio.create_task(self._tell())
        self._stack.push_async_callback(_ended, telling)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def steer(self, consumer: Pauses) -> None:
        """Pause and resume this consumer's queues, as the breakers are now and from now on."""

        def pause_or_resume(_: State) -> None:
            _steer(consumer, Queue.PAYMENTS, self.payments)
            _steer(consumer, Queue.NOTIFICATIONS, self.sms, self.push)

        for breaker in self._used:
            breaker.listen(pause_or_resume)
            pause_or_resume(breaker.state)

    async def _tell(self) -> None:
        """Keep the alerts as the breakers are. Half-open is not over yet. A database that is away is told later."""
        await asyncio.gather(*(breaker.check() for breaker in self._used))  # whoever starts in an outage knows it at once
        while True:
            try:
                for breaker in self._used:
                    await self._tell_of(breaker)
            except (DatabaseUnavailable, *UNAVAILABLE) as error:
                log.warning("an alert is put off", error=type(error).__name__)
                await asyncio.sleep(_TELL_AGAIN_S)
                continue
            await self._news.wait()
            self._news.clear()

    async def _tell_of(self, breaker: Breaker) -> None:
        told = self._told.get(breaker.name)  # None: an alert may be left from a process before this one
        away = breaker.state is State.OPEN or (breaker.state is State.HALF_OPEN and told is not False)
        if away is told:
            return
        if away:
            detail = "Calls are spared and its queue waits; probes go on. It resumes by itself."
            await raise_alert(self._pool, ALERT, breaker.name, detail, self._clock())
        else:
            await clear_alert(self._pool, ALERT, breaker.name, self._clock())
        self._told[breaker.name] = away


def _steer(consumer: Pauses, queue: Queue, *dependencies: Breaker) -> None:
    if all(breaker.state is State.OPEN for breaker in dependencies):
        consumer.pause(queue.value)
    else:
        consumer.resume(queue.value)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
