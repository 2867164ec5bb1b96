"""The only place for a circuit breaker's rules: closed, open, half-open. Pure; the time is an argument, in seconds.

A failing call alone decides nothing: the dependency's probe does. Where the probe is answered and yet most calls fail, their
rate decides. Each opening begins a new era; what began in an earlier one and fails has met the outage, not an error of its own.
"""

from collections import deque
from enum import StrEnum
from typing import Final

import msgspec


class State(StrEnum):
    """Closed: calls go through. Open: none does. Half-open: a few do, to see."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Blame(StrEnum):
    """Whose failure it is: the call's own, that of a dependency which is down, or of one that answers its probe and fails."""

    CALL = "call"
    DOWN = "down"
    FAILING = "failing"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When the rate of failures opens, how the pauses between probes grow, and how many calls are the trial."""

    window_s: int = 10
    least_calls: int = 8
    failing_share: float = 0.5
    first_pause_s: float = 0.5
    longest_pause_s: float = 5.0
    trials: int = 3


class Ticket(msgspec.Struct, frozen=True):
    """Leave to make one call; given back with `answered`, `failed` or `dropped`."""

    era: int
    trial: bool


_GROWTH: Final = 2.0


class Circuit:
    """One dependency. `state`, `cause` and `pause_s` may be read; everything else goes through the methods."""

    def __init__(self, policy: Policy) -> None:
        self.state = State.CLOSED
        self.pause_s = policy.first_pause_s
        self.cause = Blame.DOWN  # of the last opening
        self._policy = policy
        self._era = 0
        self._trying = self._good = 0
        self._window: deque[list[int]] = deque()  # [second, calls, failures]

    def admit(self) -> Ticket | None:
        """Leave to call; None while open, and while half-open with as many trials under way as there may be."""
        match self.state:
            case State.CLOSED:
                return Ticket(self._era, trial=False)
            case State.HALF_OPEN if self._trying < self._policy.trials:
                self._trying += 1
                return Ticket(self._era, trial=True)
            case _:
                return None

    def overtaken(self, ticket: Ticket) -> bool:
        """Whether the dependency was found down since the call began."""
        return ticket.era != self._era

    def answered(self, ticket: Ticket, now: float) -> None:
        """The dependency answered, if only to refuse."""
        if self.overtaken(ticket):
            return
        if self.state is State.CLOSED:
            self._count(now, failed=0)
            return
        self._trying -= 1
        self._good += 1
        if self._good >= self._policy.trials:
            self._close()

    def failed(self, ticket: Ticket, *, alive: bool, now: float) -> Blame:
        """The call failed as it does when the dependency is away. `alive`: a probe that began later was answered."""
        if self.overtaken(ticket):
            return self.cause
        if not alive:
            return self._open(Blame.DOWN)
        if self.state is State.HALF_OPEN:
            return self._open(Blame.FAILING)
        self._count(now, failed=1)
        return self._open(Blame.FAILING) if self._mostly_fails() else Blame.CALL

    def dropped(self, ticket: Ticket) -> None:
        """The call ended without telling anything of the dependency: cancelled, or a bug of ours."""
        if ticket.trial and not self.overtaken(ticket) and self.state is State.HALF_OPEN:
            self._trying -= 1

    def probed(self, *, alive: bool) -> None:
        """What the probe found that goes on while the circuit is not closed."""
        match self.state:
            case State.OPEN if alive:
                self.state, self._trying, self._good = State.HALF_OPEN, 0, 0
            case State.HALF_OPEN if not alive:
                self._open(Blame.DOWN)
            case State.HALF_OPEN if not self._trying:
                self._close()  # hardly anybody calls, and nothing failed: a second good probe has to do
            case State.OPEN:
                self.pause_s = min(self.pause_s * _GROWTH, self._policy.longest_pause_s)
            case _:
                pass

    def _open(self, cause: Blame) -> Blame:
        if self.state is State.HALF_OPEN:
            self.pause_s = min(self.pause_s * _GROWTH, self._policy.longest_pause_s)
        self.state, self.cause = State.OPEN, cause
        self._era += 1
        self._window.clear()
        return cause

    def _close(self) -> None:
        self.state, self.pause_s = State.CLOSED, self._policy.first_pause_s
        self._window.clear()

    def _count(self, now: float, *, failed: int) -> None:
        second = int(now)
        while self._window and self._window[0][0] <= second - self._policy.window_s:
            self._window.popleft()
        if self._window and self._window[-1][0] == second:
            self._window[-1][1] += 1
            self._window[-1][2] += failed
        else:
            self._window.append([second, 1, failed])

    def _mostly_fails(self) -> bool:
        calls = sum(each[1] for each in self._window)
        failures = sum(each[2] for each in self._window)
        return calls >= self._policy.least_calls and failures >= calls * self._policy.failing_share
