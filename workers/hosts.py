"""The only place that remembers how the hosts of restaurants behave: thousands of peers, each away or slow on its own.

In memory, of this process, and bounded. A host that failed is left alone for a growing pause; then one message is let through
to see. And a host that hangs cannot take all the hands of its queue: while nothing comes back from it, few calls may wait.
"""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from orders.errors import PeerAway

AWAY: Final = Gauge("rushline_hosts_away", "Hosts of restaurants that this process leaves alone")
SPARED: Final = Counter("rushline_hosts_spared_total", "Calls that were not made, because their host was away or hung", ["why"])
_MOST_HOSTS: Final = 10_000
_FAILURES: Final = 2  # one may be a blink, and is tried again within a moment
_AT_ONCE: Final = 4
_SLOW_S: Final = 0.5
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 60.0  # the shortest tier's wait: longer, and what comes back from it could not be the probe

log = structlog.get_logger()


@dataclass(slots=True)
class _Host:
    """`limit`: how many calls may be under way; grows with each answer, so that a busy host that answers is not held back."""

    failures: int = 0
    away: bool = False
    pause_s: float = 0.0
    again_at: float = 0.0
    probing: bool = False
    limit: int = _AT_ONCE
    began: list[float] = field(default_factory=list)  # of the calls under way, oldest first
    freed: asyncio.Event = field(default_factory=asyncio.Event)


class Hosts:
    """`calling` around each call; the call's outcome is told by `failed` and `answered` on what it yields."""

    def __init__(self, *, hands: int, time_scale: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`hands`: how many calls the queue makes at once. A quarter of them is never any one host's."""
        self._most = max(1, hands * 3 // 4)
        self._first_pause_s, self._longest_pause_s = _FIRST_PAUSE_S / time_scale, _LONGEST_PAUSE_S / time_scale
        self._clock = clock
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._hosts)

    @asynccontextmanager
    async def calling(self, name: str) -> AsyncIterator["Call"]:
        """Leave to call this host. Raises `PeerAway` where it is away, or hangs with as many calls as it may have."""
        host = self._host(name)
        await self._admitted(name, host)
        call = Call(self, name, host, probe=host.away)
        host.probing = host.away
        began = self._clock()
        host.began.append(began)
        try:
            yield call
        finally:
            host.began.remove(began)
            if call.probe:
                host.probing = False
            host.freed.set()

    def _host(self, name: str) -> _Host:
        host = self._hosts.setdefault(name, _Host())
        self._hosts.move_to_end(name)
        if len(self._hosts) > _MOST_HOSTS:
            oldest = next((known for known, each in self._hosts.items() if not each.began and each is not host), None)
            if oldest is not None and self._hosts.pop(oldest).away:
                AWAY.dec()
        return host

    async def _admitted(self, name: str, host: _Host) -> None:
        while True:
            now = self._clock()
            if host.away:
                if host.probing or now < host.again_at:
                    SPARED.labels("away").inc()
                    raise PeerAway(f"{name} is away")
                return
            if len(host.began) < min(host.limit, self._most):
                return
            left_s = host.began[0] + _SLOW_S - now
            if left_s <= 0:
                SPARED.labels("hangs").inc()
                raise PeerAway(f"{name} has not answered {len(host.began)} calls")
            host.freed.clear()
            try:
                await asyncio.wait_for(host.freed.wait(), left_s)
            except TimeoutError:
                continue  # the one above decides

    def answered(self, host: _Host, name: str) -> None:
        """It took the message, or refused it: it is there."""
        host.failures = 0
        host.limit = min(host.limit + 1, self._most)
        if host.away:
            host.away, host.pause_s = False, 0.0
            AWAY.dec()
            log.info("a host is back", host=name)

    def failed(self, host: _Host, name: str, *, silent: bool) -> bool:
        """No connection, no answer in time, or 5xx. True where the host is away now; silence is one failure too many."""
        host.failures = _FAILURES if silent else host.failures + 1
        host.limit = min(_AT_ONCE, self._most)
        if host.failures < _FAILURES:
            return False
        now = self._clock()
        if not host.away:
            host.away, host.pause_s = True, self._first_pause_s
            AWAY.inc()
            log.warning("a host is away", host=name)
        elif now >= host.again_at:  # the probe; what failed beside it began before
            host.pause_s = min(2 * host.pause_s, self._longest_pause_s)
        host.again_at = now + host.pause_s * random.uniform(0.5, 1)  # noqa: S311  # jitter
        host.freed.set()
        return True


class Call:
    """One call under way."""

    def __init__(self, hosts: Hosts, name: str, host: _Host, *, probe: bool) -> None:
        self._hosts, self._name, self._host, self.probe = hosts, name, host, probe

    def answered(self) -> None:
        self._hosts.answered(self._host, self._name)

    def failed(self, *, silent: bool) -> bool:
        return self._hosts.failed(self._host, self._name, silent=silent)
