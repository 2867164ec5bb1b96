"""The operator of the simulated world: looks at what failed and decides, over HTTP like any other."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlencode

from adapters.settings import Settings
from simulation.client import Answer, Caller, Gateway, open_gateway

_LOOK_S: Final = 0.25
_PATIENCE_S: Final = 45.0
_NIGHT_SHIFT: Final = Caller("ops_night_shift", "operator")


class NotAnsweredError(Exception):
    """What the operator asked for was refused, or did not come about in time."""


class Operator:
    """One person with a token of the role `operator`, and patience."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def letters(self, **wanted: str) -> list[dict[str, Any]]:
        """Failed messages that a filter names, at most 100."""
        answer = await self._asked("GET", f"/v1/ops/dead-letters?{urlencode({'limit': 100, **wanted})}")
        found: list[dict[str, Any]] = answer["letters"]
        return found

    async def wait_for_letters(self, **wanted: str) -> list[dict[str, Any]]:
        """The same, once there is one. Raises `NotAnsweredError` where none comes."""
        ends = time.monotonic() + _PATIENCE_S
        while not (found := await self.letters(**wanted)):
            if time.monotonic() > ends:
                raise NotAnsweredError(f"no letter came that is {wanted}")
            await asyncio.sleep(_LOOK_S)
        return found

    async def alarmed(self, kind: str) -> bool:
        """Whether the system calls for somebody because of this now."""
        answer = await self._asked("GET", "/v1/ops/alerts")
        return any(alert["kind"] == kind for alert in answer["alerts"])

    async def until_alarmed(self, kind: str, *, alarmed: bool) -> None:
        """Wait until it does, or until it does no longer. Raises `NotAnsweredError` where that does not come about."""
        ends = time.monotonic() + _PATIENCE_S
        while await self.alarmed(kind) is not alarmed:
            if time.monotonic() > ends:
                raise NotAnsweredError(f"the alert {kind} was {'not raised' if alarmed else 'not cleared'}")
            await asyncio.sleep(_LOOK_S)

    async def discard(self, letter: dict[str, Any], reason: str) -> None:
        await self._asked("POST", f"/v1/ops/dead-letters/{letter['letter_id']}/discard", {"reason": reason})

    async def replay(self, wanted: dict[str, str], reason: str) -> dict[str, Any]:
        """Send all of these again, one first, then five, then the rest; what it came to, once it has ended."""
        body = {"filter": wanted, "reason": reason}
        started = await self._asked("POST", "/v1/ops/replays", body)
        ends = time.monotonic() + _PATIENCE_S
        while True:
            seen = await self._asked("GET", f"/v1/ops/replays/{started['replay_id']}")
            if seen["ended_at"] or seen["state"] in ("stopped", "done", "cancelled"):
                return seen
            if time.monotonic() > ends:
                raise NotAnsweredError(f"the replay is still {seen['state']}: {seen}")
            await asyncio.sleep(_LOOK_S)

    async def _asked(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer: Answer = await self._gateway.insist(method, path, _NIGHT_SHIFT, body)
        if not answer.ok:
            raise NotAnsweredError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer.json()


@asynccontextmanager
async def open_operator(settings: Settings) -> AsyncIterator[Operator]:
    """Somebody on the night shift."""
    async with open_gateway(settings, connections=2) as gateway:
        yield Operator(gateway)
