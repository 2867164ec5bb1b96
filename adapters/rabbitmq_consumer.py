"""The only place that consumes from RabbitMQ: own connection, own reconnect, passive about queues, drained at the end.

A queue can be paused, alone: its consumer is cancelled, so that other processes (or nobody) get its messages meanwhile.
"""

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

from adapters.rabbitmq_tolerance import read_anything

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
        self._paused: set[str] = set()
        self._held: list[Delivery] = []
        self._changed = asyncio.Event()

    def pause(self, queue: str) -> None:
        """Take no more from this queue until `resume`, over reconnects too. What is in hand goes on to its end."""
        if queue in self._slots:
            self._paused.add(queue)
            self._changed.set()

    def resume(self, queue: str) -> None:
        """Take from this queue again."""
        self._paused.discard(queue)
        self._changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until stopped, connecting again as often as it takes; then finish what is in hand and release the rest."""
        read_anything()
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
                sources = {name: await self._open(connection, name, lost) for name in self._slots}
            tags: dict[str, str] = {}
            while not (stop.is_set() or lost.is_set()):
                self._changed.clear()
                await self._steer(sources, tags)
                await _first(stop, lost, self._changed)
            if lost.is_set():
                log.warning("the connection for consuming was lost", in_hand=len(self._tasks))
                return
            for name, tag in tags.items():
                await sources[name].cancel(tag, timeout=_GOODBYE_S)
            await self._let_go()
            await self._drain()
        finally:
            self._held.clear()  # without its connection the broker has taken it all back
            with suppress(*_GONE):
                await asyncio.wait_for(connection.close(), _GOODBYE_S)

    async def _steer(self, sources: Mapping[str, AbstractQueue], tags: dict[str, str]) -> None:
        """Cancel the consumers of paused queues, then release what came meanwhile; subscribe to all others."""
        async with asyncio.timeout(_SUBSCRIBE_TIMEOUT_S):
            for name, source in sources.items():
                if name in self._paused and name in tags:
                    await source.cancel(tags.pop(name), timeout=_GOODBYE_S)
                    log.warning("a queue is paused", queue=name)
                elif name not in self._paused and name not in tags:
                    tags[name] = await source.consume(partial(self._take, name))
                    log.info("consuming", queue=name)
            await self._let_go()

    async def _let_go(self) -> None:
        """Release what came for a queue while it was being paused. Not sooner: it would come back to us at once."""
        held, self._held = self._held, []
        for delivery in held:
            await delivery.release()

    async def _open(self, connection: AbstractConnection, name: str, lost: asyncio.Event) -> AbstractQueue:
        channel = await connection.channel(publisher_confirms=False)
        channel.close_callbacks.add(lambda *_: lost.set())
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: lost.set())  # its queue was deleted, or moved
        await channel.set_qos(prefetch_count=self._concurrency)
        return await channel.get_queue(name)  # passive: raises where it is missing

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
        if queue in self._paused:
            self._held.append(delivery)
            self._changed.set()
            return
        task = asyncio.get_running_loop().create_task(self._one(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, delivery: Delivery) -> None:
        try:
            async with self._slots[delivery.queue]:
                await (delivery.release() if delivery.queue in self._paused else self._handle(delivery))
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
