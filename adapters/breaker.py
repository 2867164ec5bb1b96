"""The only place that keeps calls away from a dependency that is down: drives a `Circuit` with real calls, probes and time.

The first call that fails asks the probe at once, and waits for its answer. So an outage is known before any message pays for
it with an attempt: what failed because of it is reported as `DependencyDown`, the first failure like the last.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from adapters.circuit import Blame, Circuit, Policy, State, Ticket
from orders.errors import DependencyDown, PeerAway, RushlineError

STATE: Final = Gauge("rushline_breaker_state", "0 closed, 1 half-open, 2 open", ["dependency"])
MOVES: Final = Counter("rushline_breaker_transitions_total", "Times a breaker came into a state", ["dependency", "state"])
SPARED: Final = Counter("rushline_breaker_spared_total", "Calls that an open breaker kept from the network", ["dependency"])
PROBES: Final = Counter("rushline_breaker_probes_total", "Probes, by what they found", ["dependency", "alive"])
_RANK: Final = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
_T = TypeVar("_T")

log = structlog.get_logger()


class DependencyFailing(PeerAway):
    """The dependency answers its probe and fails most real calls. The message waits in a tier; no attempt is spent."""

    slug = "dependency-failing"


class Breaker:
    """Around every call to one dependency. Enter it once; `probe` asks the dependency something cheap without an effect.

    `points_at` are the errors that a dependency raises when it is away, from calls and from the probe; any other error of
    ours is an answer. The probe may take `patience_s`: as long as a call, or it would be stricter than what it judges.
    """

    def __init__(
        self,
        name: str,
        probe: Callable[[], Awaitable[None]],
        *,
        points_at: tuple[type[Exception], ...],
        patience_s: float,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._probe, self._points_at, self._patience_s = probe, points_at, patience_s
        self._absences: tuple[type[Exception], ...] = (TimeoutError, *points_at)
        self._circuit = Circuit(policy or Policy())
        self._clock, self._pause = clock, pause
        self._told = State.CLOSED
        self._moved = asyncio.Event()
        self._listeners: list[Callable[[State], None]] = []
        self._probing: tuple[float, asyncio.Task[bool]] | None = None
        self._recovering: asyncio.Task[None] | None = None
        STATE.labels(name).set(0)

    @property
    def state(self) -> State:
        return self._circuit.state

    def listen(self, listener: Callable[[State], None]) -> None:
        """Call this at every move from now on. It must not block."""
        self._listeners.append(listener)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [task for task in (self._recovering, self._probing and self._probing[1]) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def call(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do this call, where the dependency is there. Raises what it raises, `DependencyDown`, or `DependencyFailing`."""
        ticket = await self._admitted()
        try:
            answer = await work()
        except self._points_at as error:
            await self._judge(ticket, error)
            raise
        except RushlineError:
            self._circuit.answered(ticket, self._clock())
            raise
        except BaseException:
            self._circuit.dropped(ticket)
            raise
        else:
            self._circuit.answered(ticket, self._clock())
            return answer
        finally:
            self._tell()

    async def check(self) -> State:
        """Ask the probe now, without a call that failed; for what is likely to fail together with something else."""
        ticket = self._circuit.admit()
        if ticket is not None:
            try:
                if not await self._alive(self._clock()):
                    self._circuit.failed(ticket, alive=False, now=self._clock())
            finally:
                self._circuit.dropped(ticket)
                self._tell()
        return self.state

    async def _admitted(self) -> Ticket:
        while (ticket := self._circuit.admit()) is None:
            if self.state is State.OPEN:
                SPARED.labels(self.name).inc()
                raise self._absence("calls are spared")
            self._moved.clear()
            await self._moved.wait()  # the trial ends within a call's time
        return ticket

    async def _judge(self, ticket: Ticket, error: Exception) -> None:
        """Raise what this failure means, where it is not the call's own."""
        try:
            alive = self._circuit.overtaken(ticket) or await self._alive(self._clock())
        except BaseException:
            self._circuit.dropped(ticket)
            raise
        if self._circuit.failed(ticket, alive=alive, now=self._clock()) is not Blame.CALL:
            raise self._absence(str(error)) from error

    def _absence(self, detail: str) -> DependencyDown | DependencyFailing:
        """What the last opening means for a message: back into its queue until the dependency is there, or into a tier, so that
        another one is the next to be tried.
        """
        if self._circuit.cause is Blame.FAILING:
            return DependencyFailing(f"{self.name} answers and fails: {detail}")
        return DependencyDown(f"{self.name} is down: {detail}")

    async def _alive(self, since: float) -> bool:
        """What a probe found that began at `since` or later; one at a time, shared by all who ask meanwhile. That one
        was answered which began earlier says nothing; that it was not says all.
        """
        while True:
            if self._probing is None or self._probing[1].done():
                self._probing = self._clock(), asyncio.create_task(self._ask())
            began, probing = self._probing
            alive = await asyncio.shield(probing)
            if not alive or began >= since:
                return alive

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._probe()
            alive = True
        except self._absences:
            alive = False
        except RushlineError as refusal:
            alive = True  # it answered
            log.warning("a probe was refused", dependency=self.name, error=refusal.slug)
        except Exception:
            alive = True  # a probe of ours that is broken decides nothing
            log.exception("a probe is broken", dependency=self.name)
        PROBES.labels(self.name, str(alive).lower()).inc()
        return alive

    async def _recover(self) -> None:
        """Probe with growing pauses until the circuit is closed again."""
        while self.state is not State.CLOSED:
            await self._pause(self._circuit.pause_s * random.uniform(0.5, 1))  # noqa: S311  # jitter
            self._circuit.probed(alive=await self._alive(self._clock()))
            self._tell()

    def _tell(self) -> None:
        """Let everybody know where the circuit has come to, once for each move."""
        self._moved.set()
        state = self.state
        if state is self._told:
            return
        self._told = state
        STATE.labels(self.name).set(_RANK[state])
        MOVES.labels(self.name, state.value).inc()
        level = log.error if state is State.OPEN else log.warning
        level("a breaker moved", dependency=self.name, state=state.value)
        if state is not State.CLOSED and (self._recovering is None or self._recovering.done()):
            self._recovering = asyncio.create_task(self._recover())
        for listener in self._listeners:
            listener(state)
