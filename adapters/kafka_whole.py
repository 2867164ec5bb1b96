"""The only place that reads a topic of one partition from its beginning to its end, as a member of no group."""

from collections.abc import AsyncIterator
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from adapters.kafka import KafkaUnavailable

_PATIENCE_MS: Final = 10_000
_AT_ONCE: Final = 5_000


async def whole_topic(bootstrap: str, topic: str) -> AsyncIterator[bytes]:
    """Every message that is there now. Raises `KafkaUnavailable`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, request_timeout_ms=_PATIENCE_MS, auto_offset_reset="earliest"
    )
    partition = TopicPartition(topic, 0)
    try:
        await consumer.start()
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        await consumer.seek_to_beginning(partition)
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=_PATIENCE_MS, max_records=_AT_ONCE)).values():
                for record in records:
                    if record.offset < end:
                        yield record.value or b""
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnavailable(f"{topic} cannot be read: {error!r}") from error
    finally:
        await consumer.stop()
