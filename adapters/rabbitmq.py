"""The only place that publishes to RabbitMQ: confirmed, mandatory, bounded in time. Consuming has a file of its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aio_pika
import aiormq
from aio_pika.abc import AbstractConnection

from orders.envelope import CONTENT_TYPE
from orders.errors import CallAnOperator, RetryLater
from orders.failures import FailureType

_CONNECT_TIMEOUT_S: Final = 5
_PERSISTENT: Final = 2
_GONE: Final = (aiormq.exceptions.AMQPError, ConnectionError, OSError, TimeoutError, RuntimeError)


class Unroutable(CallAnOperator):
    """No queue is bound for this routing key: the topology is not what the code expects. Nothing was stored."""

    slug = "unroutable"
    failure = FailureType.SERVICE_UNAVAILABLE


class Refused(RetryLater):
    """The broker said no (nack): a queue is full or in trouble. Nothing was stored."""

    slug = "refused-by-broker"
    failure = FailureType.SERVICE_UNAVAILABLE


class BrokerUnavailable(RetryLater):
    """RabbitMQ does not answer, or blocks publishers. Whether it stored the message is unknown: publish it again."""

    slug = "rabbitmq-unavailable"
    failure = FailureType.SERVICE_UNAVAILABLE


class Publisher:
    """One connection with one confirming channel, made again after a failure. Safe for many tasks at once.

    At-least-once: a message whose confirm was lost is published again by its owner, with the same id.
    """

    def __init__(self, url: str, *, service: str, timeout_ms: int) -> None:
        self._url, self._name, self._timeout_s = url, f"rushline-{service}-publish", timeout_ms / 1000
        self._connection: AbstractConnection | None = None
        self._channel: aiormq.Channel | None = None
        self._opening = asyncio.Lock()

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        headers: Mapping[str, str],
        priority: int,
        message_id: str,
        expiration_ms: int | None = None,
    ) -> None:
        """Returns once the broker has stored it. Raises `Unroutable`, `Refused`, `BrokerUnavailable`."""
        properties = aiormq.spec.Basic.Properties(
            headers=dict(headers),
            content_type=CONTENT_TYPE,
            delivery_mode=_PERSISTENT,
            priority=priority,
            message_id=message_id,
            expiration=None if expiration_ms is None else str(expiration_ms),
        )
        channel = self._channel
        try:
            if channel is None or channel.is_closed:
                channel = await self._open()
            # The channel beneath aio-pika's, because its own `publish` waits for the socket after every message: a
            # window of confirms would be filled one by one.
            await channel.basic_publish(
                body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=True,
                timeout=self._timeout_s, wait=False,
            )  # fmt: skip
        except aiormq.exceptions.PublishError as error:
            raise Unroutable(f"nothing on {exchange!r} takes {routing_key!r}") from error
        except aiormq.exceptions.DeliveryError as error:
            raise Refused(f"{exchange!r} refused {routing_key!r}") from error
        except _GONE as error:
            await self._drop(channel)
            raise BrokerUnavailable(f"RabbitMQ did not confirm: {error!r}") from error

    async def _open(self) -> aiormq.Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                await self._close()
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    self._connection = await aio_pika.connect(
                        self._url, timeout=_CONNECT_TIMEOUT_S, client_properties={"connection_name": self._name}
                    )
                    channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                    beneath = await channel.get_underlay_channel()
                    assert isinstance(beneath, aiormq.Channel)
                    self._channel = beneath
            return self._channel

    async def _drop(self, channel: aiormq.Channel | None) -> None:
        """Give up this channel's connection, unless another task has done so and made a new one."""
        async with self._opening:
            if channel is self._channel:
                await self._close()

    async def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and not connection.is_closed:
            try:
                async with asyncio.timeout(1):
                    await connection.close()
            except _GONE:
                return  # it was being given up: there is nothing left to say goodbye to

    async def close(self) -> None:
        """Close the connection; what is in flight fails with `BrokerUnavailable`."""
        async with self._opening:
            await self._close()


@asynccontextmanager
async def open_publisher(url: str, *, service: str, timeout_ms: int) -> AsyncIterator[Publisher]:
    """A publisher that connects at its first message and is closed at the end."""
    publisher = Publisher(url, service=service, timeout_ms=timeout_ms)
    try:
        yield publisher
    finally:
        await publisher.close()
