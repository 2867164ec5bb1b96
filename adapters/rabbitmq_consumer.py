"""The only place that consumes from RabbitMQ: own connection, own reconnect, passive about queues, drained at the end."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import aio_pika
import aiormq
import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue

_CONNECT_TIMEOUT_S: Final = 5
_SUBSCRIBE_TIMEOUT_S: Final = 10
_HEARTBEAT_S: Final = 10
_SHORTEST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 2.0
_AFTER_A_BUG_S: Final = 1.0
_GOODBYE_S: Final = 2.0
_GONE: Final = (aiormq.exceptions.AMQPError, ConnectionError, OSError, TimeoutError, RuntimeError)

log = structlog.get_logger()


class Settles(Protocol):
    """What settles a message with its broker."""

    async def ack(self) -> None: ...
    async def nack(self, *, requeue: bool = True) -> None: ...

    @property
    def channel(self) -> Any:
        """Raises once the channel is closed: the broker has taken the message back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message in hand, settled once. Settling after the connection was lost does nothing: it comes again."""

    queue: str
    routing_key: str
    body: bytes
    headers: Mapping[str, Any]
    priority: int
    message_id: str
    redelivered: bool
    message: Settles

    @property
    def lost(self) -> bool:
        """Whether the broker has taken the message back, to deliver it again."""
        try:
            return self.message.channel is None
        except _GONE:
            return True

    async def ack(self) -> None:
        """It is done with, or safe elsewhere."""
        with suppress(*_GONE):
            await self.message.ack()

    async def release(self) -> None:
        """Back into its queue, for whoever comes next."""
        with suppress(*_GONE):
            await self.message.nack(requeue=True)


class Consumer:
    """Some queues on one connection. `concurrency` deliveries of each queue are in hand at once, and no more fetched."""

    def __init__(
        self,
        url: str,
        handle: Callable[[Delivery], Awaitable[None]],
        *,
        service: str,
        queues: Sequence[str],
        concurrency: int,
        drain_s: float,
    ) -> None:
        self._url, self._name, self._handle = url, f"rushline-{service}-consume", handle
        self._concurrency, self._drain_s = concurrency, drain_s
        self._slots = {queue: asyncio.Semaphore(concurrency) for queue in queues}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until stopped, connecting again as often as it takes; then finish what is in hand and release the rest."""
        pause_s = _SHORTEST_PAUSE_S
        try:
            while not stop.is_set():
                try:
                    await self._session(stop)
                    pause_s = _SHORTEST_PAUSE_S
                except _GONE as error:
                    log.warning("cannot consume", error=type(error).__name__, detail=str(error)[:200])
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause_s * random.uniform(0.5, 1))  # noqa: S311  # jitter
        finally:
            await self._drain()

    async def _session(self, stop: asyncio.Event) -> None:
        """One connection, from its beginning to its loss or to the end of all."""
        lost = asyncio.Event()
        connection = await aio_pika.connect(
            self._url,
            timeout=_CONNECT_TIMEOUT_S,
            client_properties={"connection_name": self._name},
            heartbeat=_HEARTBEAT_S,
        )
        try:
            connection.close_callbacks.add(lambda *_: lost.set())
            async with asyncio.timeout(_SUBSCRIBE_TIMEOUT_S):
                subscriptions = [await self._subscribe(connection, queue, lost) for queue in self._slots]
            log.info("consuming", queues=list(self._slots))
            await _first(stop, lost)
            if lost.is_set():
                log.warning("the connection for consuming was lost", in_hand=len(self._tasks))
                return
            for queue, tag in subscriptions:
                await queue.cancel(tag, timeout=_GOODBYE_S)
            await self._drain()
        finally:
            with suppress(*_GONE):
                await asyncio.wait_for(connection.close(), _GOODBYE_S)

    async def _subscribe(self, connection: AbstractConnection, name: str, lost: asyncio.Event) -> tuple[AbstractQueue, str]:
        channel = await connection.channel(publisher_confirms=False)
        channel.close_callbacks.add(lambda *_: lost.set())
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: lost.set())  # its queue was deleted, or moved
        await channel.set_qos(prefetch_count=self._concurrency)
        queue = await channel.get_queue(name)  # passive: raises where it is missing
        return queue, await queue.consume(partial(self._take, name))

    async def _take(self, queue: str, message: AbstractIncomingMessage) -> None:
        """In a task of our own: the driver cancels its tasks when the connection is lost."""
        delivery = Delivery(
            queue=queue,
            routing_key=message.routing_key or "",
            body=message.body,
            headers=message.headers,
            priority=message.priority or 0,
            message_id=message.message_id or "",
            redelivered=bool(message.redelivered),
            message=message,
        )
        task = asyncio.get_running_loop().create_task(self._one(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, delivery: Delivery) -> None:
        try:
            async with self._slots[delivery.queue]:
                await self._handle(delivery)
        except asyncio.CancelledError:
            await delivery.release()
            raise
        except Exception:
            log.exception("a delivery could not be settled", queue=delivery.queue, message_id=delivery.message_id)
            await asyncio.sleep(_AFTER_A_BUG_S)  # never spin on one message
            await delivery.release()

    async def _drain(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
