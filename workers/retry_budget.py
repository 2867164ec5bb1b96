"""The only place that says how many tries in place a process can afford.

A try in place saves a message a minute in a tier where the trouble was momentary, and costs everybody else a place where it was
not. So retries are paid for by successes, as in Finagle's retry budget and gRPC's retry throttling: a twentieth of what
succeeds, and a few a second whatever happens. Where a fifth of all fails for good, nearly all of it goes to its tier at once.
"""

from collections.abc import Callable
from time import monotonic
from typing import Final

_PER_SUCCESS: Final = 0.05
_PER_SECOND: Final = 5.0
_MOST: Final = 20.0


class RetryBudget:
    """A bucket of tries. Starts full; `afford` takes one out, if there is one."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._left, self._at = _MOST, clock()

    def succeeded(self) -> None:
        """A message was done at its first try."""
        self._left = min(_MOST, self._left + _PER_SUCCESS)

    def afford(self) -> bool:
        """Whether one more try in place is affordable; it is paid for then."""
        now = self._clock()
        self._left, self._at = min(_MOST, self._left + (now - self._at) * _PER_SECOND), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
