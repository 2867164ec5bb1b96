"""The only place that reads from Kafka: a member of a consumer group whose offsets live elsewhere.

Who owns which partition is Kafka's to say; where to read from is PostgreSQL's. A newly assigned partition is therefore
paused and listed in `unplaced` until its owner calls `place`; what is fetched before that is dropped. Kafka may be away or
restart at any time: `poll` then returns nothing and goes on trying.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from adapters.kafka import KafkaUnavailable
from orders.errors import CallAnOperator
from orders.failures import FailureType

_log = structlog.get_logger(__name__)
_FETCH_MIN_BYTES: Final = 262_144  # the broker answers when there is this much, or after the linger
_REQUEST_TIMEOUT_MS: Final = 10_000
_SESSION_MS: Final = 10_000
_NEVER_MS: Final = 86_400_000  # a member that waits for its database stays a member
_RETRY_S: Final = 0.5
_SAY_EVERY_S: Final = 10.0
_MEMBERS: Final = 5  # where a described group has its members
_COMMIT_EVERY_S: Final = 1.0
_SETTLE_S: Final = 5.0
_SETTLE_TRIES: Final = 50
_UNPLACED_MS: Final = 50
_HOMELESS_S: Final = 45.0  # longer than a session and a rebalance: then the client is not coming back by itself


class _Sparing(logging.Filter):
    """Lets each sentence of the client pass once in a while: with Kafka away it says them hundreds of times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._said.get(record.msg, 0.0):
            return False
        self._said[record.msg] = now + _SAY_EVERY_S
        return True


for _name in ("aiokafka", "aiokafka.consumer.fetcher", "aiokafka.consumer.group_coordinator", "aiokafka.conn"):
    logging.getLogger(_name).addFilter(_Sparing())


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """One message as it lies in Kafka. Header values that are no UTF-8 are shown with replacement characters."""

    partition: Partition
    offset: int
    key: bytes | None
    headers: dict[str, str]
    body: bytes


class TopicsMissing(CallAnOperator):
    """Topics that a process reads from are not there. Names them."""

    slug = "topics-missing"
    failure = FailureType.SERVICE_UNAVAILABLE

    def __init__(self, missing: Collection[str], bootstrap: str) -> None:
        names = ", ".join(sorted(missing))
        super().__init__(f"Kafka at {bootstrap} has no topic {names}")
        self.missing, self.remedy = frozenset(missing), "Make it: `rushline topology apply`."


class Consumer:
    """A member of one group. Connects with the first `poll`, and again after whatever happens to the connection."""

    def __init__(self, bootstrap: str, group: str, topics: Collection[str], *, linger_ms: int) -> None:
        self._bootstrap, self._group, self._topics, self._linger_ms = bootstrap, group, sorted(topics), linger_ms
        self._client: Any = None
        self._listener = _Listener()
        self._uncommitted: dict[Partition, int] = {}
        self._commit_at = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._commit()
        await self._disconnect()

    @property
    def unplaced(self) -> frozenset[Partition]:
        """Partitions that are ours and whose offset nobody has told yet."""
        return frozenset(self._listener.assigned - self._listener.placed.keys())

    @property
    def placed(self) -> frozenset[Partition]:
        """Partitions that are ours and being read."""
        return frozenset(self._listener.placed)

    def place(self, partition: Partition, offset: int) -> None:
        """Read this partition from here on. Nothing happens where it is not ours any more."""
        if self._client is None or partition not in self._listener.assigned:
            return
        with contextlib.suppress(KafkaError):  # it was taken away in this moment
            self._client.seek(TopicPartition(*partition), offset)
            self._client.resume(TopicPartition(*partition))
            self._listener.placed[partition] = offset

    def displace(self, partitions: Iterable[Partition]) -> None:
        """Forget where these are read from: they become `unplaced`."""
        for partition in partitions:
            self._listener.placed.pop(partition, None)

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """What has come, oldest first within each partition; nothing after `timeout_ms`, or while Kafka is away.

        Raises `TopicsMissing` where Kafka is there and the topics are not.
        """
        try:
            if self._client is None:
                await self._connect()
            await self._commit_if_due()
            if not self._listener.placed:
                timeout_ms = min(timeout_ms, _UNPLACED_MS)  # look soon whether there is something to place
            async with asyncio.timeout(timeout_ms / 1000 + 1):  # a rebalance may take longer than our patience
                fetched = await self._client.getmany(timeout_ms=timeout_ms, max_records=max_records)
        except TimeoutError:
            fetched = {}
        except (KafkaError, OSError) as error:
            _log.warning("kafka-away", group=self._group, error=str(error) or type(error).__name__)
            await self._disconnect()
            await asyncio.sleep(min(_RETRY_S, timeout_ms / 1000))
            return []
        if self._listener.homeless_for() > _HOMELESS_S:
            _log.warning("kafka-no-assignment", group=self._group)
            await self._disconnect()
        return [record for tp, records in fetched.items() for record in self._taken(Partition(*tp), records)]

    def _taken(self, partition: Partition, records: list[ConsumerRecord]) -> Iterable[Record]:
        if partition not in self._listener.placed:
            return ()
        self._listener.placed[partition] = records[-1].offset + 1
        return (_record(partition, each) for each in records)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell Kafka, within a second and for lag tools only, how far we are."""
        self._uncommitted.update(offsets)

    def lag(self) -> int:
        """How many messages lie unread in our partitions, as far as Kafka has told us."""
        if self._client is None:
            return 0
        ends = ((self._client.highwater(TopicPartition(*each)), at) for each, at in self._listener.placed.items())
        return sum(max(0, end - at) for end, at in ends if end is not None)

    async def _connect(self) -> None:
        client = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, group_id=self._group, client_id=f"rushline-{self._group}",
            enable_auto_commit=False, auto_offset_reset="earliest", fetch_min_bytes=_FETCH_MIN_BYTES,
            fetch_max_wait_ms=self._linger_ms, request_timeout_ms=_REQUEST_TIMEOUT_MS, session_timeout_ms=_SESSION_MS,
            max_poll_interval_ms=_NEVER_MS, retry_backoff_ms=250,
        )  # fmt: skip
        try:
            await client.start()
            missing = await self._missing(client)
        except BaseException:
            await _close(client)
            raise
        if missing:
            await _close(client)
            raise TopicsMissing(missing, self._bootstrap)
        self._client, self._listener = client, _Listener(client)
        client.subscribe(self._topics, listener=self._listener)

    async def _missing(self, client: Any) -> set[str]:
        """Topics that are not there, also not in a while: brokers hear of new ones after the controller has made them."""
        missing = set(self._topics)
        for _ in range(_SETTLE_TRIES):
            missing -= set(await client.topics())
            if not missing:
                break
            await asyncio.sleep(_SETTLE_S / _SETTLE_TRIES)
        return missing

    async def _disconnect(self) -> None:
        client, self._client, self._listener = self._client, None, _Listener()
        if client is not None:
            await _close(client)

    async def _commit_if_due(self) -> None:
        if self._uncommitted and time.monotonic() >= self._commit_at:
            self._commit_at = time.monotonic() + _COMMIT_EVERY_S
            await self._commit()

    async def _commit(self) -> None:
        offsets, self._uncommitted = self._uncommitted, {}
        ours = {TopicPartition(*p): offset for p, offset in offsets.items() if p in self._listener.placed}
        if self._client is None or not ours:
            return
        with contextlib.suppress(KafkaError, OSError, TimeoutError):  # the next one, or the next owner, tells more
            async with asyncio.timeout(_COMMIT_EVERY_S):
                await self._client.commit(ours)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, client: Any = None) -> None:
        self._client = client
        self.assigned: set[Partition] = set()
        self.placed: dict[Partition, int] = {}  # and the offset of the next message
        self._homeless_since: float | None = time.monotonic() if client else None

    def homeless_for(self) -> float:
        return 0.0 if self._homeless_since is None else time.monotonic() - self._homeless_since

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:  # noqa: ARG002  # aiokafka's signature
        self.assigned, self.placed = set(), {}
        self._homeless_since = time.monotonic()

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self.assigned, self.placed = {Partition(*tp) for tp in assigned}, {}
        self._homeless_since = None
        self._client.pause(*assigned)


async def _close(client: Any) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(5):
            await client.stop()


def _record(partition: Partition, raw: ConsumerRecord) -> Record:
    headers = {name: value.decode(errors="replace") for name, value in raw.headers if value is not None}
    return Record(partition, raw.offset, raw.key, headers, raw.value or b"")


async def members_of(bootstrap: str, group: str) -> int:
    """How many consumers the group has now. Raises `KafkaUnavailable`."""
    async with _talking(AIOKafkaAdminClient(bootstrap_servers=bootstrap)) as kafka:
        answers = await kafka.describe_consumer_groups([group])
    return sum(len(each[_MEMBERS]) for answer in answers for each in answer.groups)


async def offsets_at(bootstrap: str, topic: str, since: datetime | None) -> dict[int, tuple[int, int, int]]:
    """By partition: the first offset there is, the first of that time, the end. Raises `KafkaUnavailable`, `TopicsMissing`."""
    async with _talking(AIOKafkaAdminClient(bootstrap_servers=bootstrap)) as kafka:
        described = {each["topic"]: each["partitions"] for each in await kafka.describe_topics([topic])}
    partitions = [TopicPartition(topic, number) for number in range(len(described[topic]))]
    if not partitions:
        raise TopicsMissing([topic], bootstrap)
    async with _talking(AIOKafkaConsumer(bootstrap_servers=bootstrap)) as kafka:
        first, end = await kafka.beginning_offsets(partitions), await kafka.end_offsets(partitions)
        at = {}
        if since is not None:
            at = await kafka.offsets_for_times(dict.fromkeys(partitions, int(since.timestamp() * 1000)))
    begin = {tp: first[tp] if since is None else found.offset if (found := at.get(tp)) else end[tp] for tp in partitions}
    return {tp.partition: (first[tp], begin[tp], end[tp]) for tp in partitions}


@contextlib.asynccontextmanager
async def _talking(client: Any) -> AsyncIterator[Any]:
    try:
        await client.start()
        yield client
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnavailable(f"Kafka does not answer: {error}") from error
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else _close(client))
