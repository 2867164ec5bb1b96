"""Who owns a partition, and what happens to a batch when that changes, or when a server goes away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import msgspec
import pytest

from adapters.kafka_consumer import Consumer, Partition, TopicsMissing
from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, connect
from adapters.settings import Settings
from streams.__main__ import run
from streams.analytics import Analytics
from streams.consumer import Stream
from streams.group import Group
from tests.integration.streams_making import (
    database,
    facts,
    following,
    held,
    journey,
    member,
    named,
    own_topic,
    positions,
    publish,
    rows,
)
from tests.making import eventually
from tests.proxy import proxy_to

_BREAK_OFF = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE $2"


@pytest.fixture(scope="module")
def own(stack: Settings) -> Iterator[Settings]:
    yield from database(stack)


async def _placed(own: Settings, city: str) -> int:
    (row,) = await rows(own, "SELECT coalesce(sum(placed), 0)::int AS n FROM analytics_minutes WHERE city = $1", city)
    count: int = row["n"]
    return count


async def _until_read(stream: Stream, wanted: int) -> int:
    """Steps until so many facts have come."""
    read = 0
    for _ in range(100):
        read += await stream.step()
        if read >= wanted:
            return read
    raise AssertionError(read)


async def _reached(own: Settings, group: Group, wanted: dict[str, int]) -> None:
    async def check() -> None:
        assert await positions(own, group) == wanted

    await eventually(check, 30)


async def test_two_members_share_the_partitions_and_every_fact_takes_effect_once(own: Settings) -> None:
    topic = await own_topic(own, partitions=8)
    name, journeys = named("analytics"), [journey() for _ in range(40)]
    one, two = Analytics(topic=topic, name=name), Analytics(topic=topic, name=name)
    sent = [row for changes in journeys for row in facts(changes, topic)]
    before, wanted = await _placed(own, "Utrecht"), {changes[0].order.order_id: 9 for changes in journeys}
    async with following(own, one, batch_rows=10):
        await publish(own, sent[:90])
        async with following(own, two, batch_rows=10):
            await publish(own, sent[90:200])
            await asyncio.gather(publish(own, sent[200:]), publish(own, sent[:50]))
            await _reached(own, one, wanted)
        await publish(own, sent)  # the second has left: the first owns all again
    assert await positions(own, one) == wanted
    assert await _placed(own, "Utrecht") - before == 40


async def test_a_member_that_lost_its_partition_cannot_commit(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey()
    group = Analytics(topic=topic, name=named("analytics"))
    before = await _placed(own, "Utrecht")
    await publish(own, facts(changes, topic)[:1])
    stream, consumer = member(own, group)
    async with _stepping(stream, consumer):
        await _until_read(stream, 1)
        await publish(own, facts(changes, topic)[1:])
        # Somebody else has the partition meanwhile, and has gone further.
        await rows(own, "UPDATE stream_offsets SET next_offset = 5 WHERE group_name = $1", group.name)
        await rows(own, "UPDATE stream_positions SET position = 5 WHERE group_name = $1", group.name)
        await _until_read(stream, 8)
        assert await positions(own, group) == {changes[0].order.order_id: 5}  # the batch was dropped whole
        assert consumer.unplaced == {Partition(topic, 0)}
        await _until_read(stream, 4)  # read again from where the other one was
    assert await positions(own, group) == {changes[0].order.order_id: 9}
    assert await _placed(own, "Utrecht") - before == 1


async def test_a_death_between_the_two_commits_changes_nothing(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey()
    group = Analytics(topic=topic, name=named("analytics"))
    before = await _placed(own, "Utrecht")
    await publish(own, facts(changes, topic))
    stream, consumer = member(own, group)
    async with _stepping(stream, consumer):
        await _until_read(stream, 9)
        consumer._uncommitted.clear()  # killed here: PostgreSQL knows, Kafka was never told
    async with following(own, group):
        await publish(own, facts(journey(), topic))

        async def both() -> None:
            assert sorted((await positions(own, group)).values()) == [9, 9]

        await eventually(both)
    assert await _placed(own, "Utrecht") - before == 2


async def test_a_database_that_breaks_off_is_waited_for_and_nothing_is_skipped(own: Settings) -> None:
    topic, journeys = await own_topic(own), [journey() for _ in range(30)]
    group = Analytics(topic=topic, name=named("analytics"))
    before = await _placed(own, "Utrecht")
    async with following(own, group, batch_rows=20):
        for changes in journeys:
            await publish(own, facts(changes, topic))
            async with connect(own.postgres_dsn, service="tests") as db:  # the role that may
                await db.execute(_BREAK_OFF, urlsplit(own.postgres_dsn).path[1:], f"%{group.name}")
        await _reached(own, group, {changes[0].order.order_id: 9 for changes in journeys})
    assert await _placed(own, "Utrecht") - before == 30


async def test_a_database_that_is_away_when_held_facts_are_looked_for_skips_nothing(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey()
    group, place = Analytics(topic=topic, name=named("analytics")), urlsplit(own.postgres_dsn)
    await publish(own, facts(changes, topic)[:1])
    async with proxy_to(place.hostname or "", place.port or 0) as proxy:
        netloc = place.netloc.replace(f":{place.port}", f":{proxy.port}")
        stream, consumer = member(msgspec.structs.replace(own, postgres_dsn=place._replace(netloc=netloc).geturl()), group)
        async with _stepping(stream, consumer):
            await _until_read(stream, 1)
            proxy.cut()
            await publish(own, facts(changes, topic)[1:])
            for _ in range(6):
                stream._look_at = 0.0  # a second has passed
                with suppress(DatabaseUnavailable, *UNAVAILABLE):
                    await stream.step()
            proxy.mend()
            await _until_read(stream, 8)
    assert await positions(own, group) == {changes[0].order.order_id: 9}
    assert not await held(own, group)


async def test_a_missing_table_is_waited_for_too_and_holds_no_order(own: Settings) -> None:
    topic, changes = await own_topic(own), journey()
    group = Analytics(topic=topic, name=named("analytics"))
    await rows(own, "ALTER TABLE analytics_orders RENAME TO gone")
    async with following(own, group):
        await publish(own, facts(changes, topic))

        async def at_work() -> None:
            found = await rows(own, "SELECT count(*) AS n FROM stream_offsets WHERE group_name = $1", group.name)
            assert found[0]["n"] == 4

        await eventually(at_work)
        assert not await positions(own, group)
        await rows(own, "ALTER TABLE gone RENAME TO analytics_orders")
        await _reached(own, group, {changes[0].order.order_id: 9})


async def test_a_missing_topic_is_named_at_boot(own: Settings) -> None:
    group = Analytics(topic="no.such.topic", name=named("analytics"))
    stream, consumer = member(own, group)
    async with consumer:
        with pytest.raises(TopicsMissing, match=r"no\.such\.topic") as caught:
            await stream.run(asyncio.Event())
    assert caught.value.missing == {"no.such.topic"}


async def test_a_kafka_that_is_away_at_boot_is_waited_for(own: Settings) -> None:
    consumer = Consumer("127.0.0.1:9", named("nobody"), ["orders.events"], linger_ms=10)
    async with consumer:
        assert await consumer.poll(10, 50) == []
        assert await consumer.poll(10, 50) == []


async def test_all_five_groups_start_and_stop_together(stack: Settings) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(run(stack, (), stop))

    async def assigned() -> None:
        found = await rows(stack, "SELECT count(DISTINCT group_name) AS n FROM stream_offsets")
        assert found[0]["n"] >= 4

    await eventually(assigned, 30)
    stop.set()
    await task


@asynccontextmanager
async def _stepping(stream: Stream, consumer: Consumer) -> AsyncIterator[None]:
    async with consumer:
        yield
    await stream._store.close()
