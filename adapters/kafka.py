"""The only place that publishes to Kafka: idempotent, all replicas. Consuming has a file of its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTopicError, KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError

from orders.errors import CallAnOperator, RetryLater
from orders.failures import FailureType

_START_TIMEOUT_S: Final = 10
_LINGER_MS: Final = 2
_BATCH_BYTES: Final = 65_536


class FactRefused(CallAnOperator):
    """Kafka will never take this record: too large, or its topic does not exist."""

    slug = "refused-by-kafka"
    failure = FailureType.INVALID_MESSAGE


class KafkaUnavailable(RetryLater):
    """Kafka does not answer. Whether it stored the record is unknown: publish it again; positions make that harmless."""

    slug = "kafka-unavailable"
    failure = FailureType.SERVICE_UNAVAILABLE


class Producer:
    """An idempotent producer, made again after a failure (its sequence is not to be trusted then). One task at a time."""

    def __init__(self, bootstrap: str, *, service: str, timeout_ms: int) -> None:
        self._bootstrap, self._client_id, self._timeout_ms = bootstrap, f"rushline-{service}", timeout_ms
        self._producer: Any = None

    async def send(self, topic: str, key: str, body: bytes, headers: Mapping[str, str]) -> "asyncio.Future[Any]":
        """Put one record on its way; `settle` the future. Raises `FactRefused`, `KafkaUnavailable`."""
        producer = self._producer or await self._start()
        try:
            future: asyncio.Future[Any] = await producer.send(
                topic, body, key.encode(), headers=[(name, value.encode()) for name, value in headers.items()]
            )
        except (MessageSizeTooLargeError, UnknownTopicOrPartitionError, InvalidTopicError) as error:
            raise FactRefused(f"{topic}: {error!r}") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaUnavailable(f"Kafka did not take a record: {error!r}") from error
        return future

    async def settle(self, futures: "list[asyncio.Future[Any]]") -> list[CallAnOperator | RetryLater | None]:
        """For each record: None where all replicas have it, else why not. Does not raise."""
        if not futures:
            return []
        results = await asyncio.gather(*futures, return_exceptions=True)
        return [_meaning(result) for result in results]

    async def reset(self) -> None:
        """Give up the producer, what is in flight included."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def _start(self) -> Any:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id=self._client_id,
            enable_idempotence=True,
            acks="all",
            linger_ms=_LINGER_MS,
            max_batch_size=_BATCH_BYTES,
            request_timeout_ms=self._timeout_ms,
            retry_backoff_ms=100,
        )
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await _stop(producer)
            raise KafkaUnavailable(f"Kafka cannot be reached: {error!r}") from error
        self._producer = producer
        return producer


def _meaning(result: object) -> CallAnOperator | RetryLater | None:
    match result:
        case MessageSizeTooLargeError() | UnknownTopicOrPartitionError() | InvalidTopicError():
            return FactRefused(repr(result))
        case BaseException():
            return KafkaUnavailable(f"Kafka did not confirm a record: {result!r}")
        case _:
            return None


async def _stop(producer: Any) -> None:
    try:
        async with asyncio.timeout(1):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError):
        return  # given up: what was in flight is published again by its owner


@asynccontextmanager
async def open_producer(bootstrap: str, *, service: str, timeout_ms: int) -> AsyncIterator[Producer]:
    """A producer that connects at its first record and is stopped at the end."""
    producer = Producer(bootstrap, service=service, timeout_ms=timeout_ms)
    try:
        yield producer
    finally:
        await producer.reset()
