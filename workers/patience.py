"""The only place that waits in place: for a server that is away, which is no message's fault."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from adapters.rabbitmq_consumer import Delivery
from workers.judge import reason_of

_LONGEST_S: Final = 2.0
_P = ParamSpec("_P")
_T = TypeVar("_T")

log = structlog.get_logger()


class Patience:
    """Ends when the process is told to stop."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    async def until_done(
        self,
        delivery: Delivery,
        away: tuple[type[Exception], ...],
        work: Callable[_P, Awaitable[_T]],
        *arguments: _P.args,
        **named: _P.kwargs,
    ) -> _T:
        """In place until it works. Raises one of `away` only when we stop or the message is lost."""
        try:
            return await work(*arguments, **named)
        except away as error:
            log.warning("a command waits in place", error=reason_of(error), detail=str(error)[:200])
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(away),
            stop=lambda _: self._stop.is_set() or delivery.lost,
            wait=wait_random_exponential(0.1, max=_LONGEST_S),
            sleep=self.pause,
            reraise=True,
        ):
            with attempt:
                return await work(*arguments, **named)
        raise AssertionError("unreachable: the last attempt raises")

    async def pause(self, seconds: float) -> None:
        """So long, or until we stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
