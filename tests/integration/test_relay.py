"""The relay with a real database and real brokers: every row gets out once its broker has it, whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.kafka import open_producer
from adapters.postgres import Pool, connect, open_pool
from adapters.settings import Settings
from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX, Broker, OutboxRow, open_envelope
from orders.ids import new_id
from orders.lifecycle import Action
from orders.names import AUDIT_TOPIC, ORDERS_TOPIC, Queue, State
from outbox import sql
from outbox.lanes import KafkaLane
from outbox.relay import Relay
from outbox.status import lane_statuses
from outbox.transition import apply, enqueue
from tests.making import (
    WAY_TO,
    change_of,
    command_message,
    empty,
    eventually,
    fact_row,
    placed,
    quick,
    relaying,
    walked,
)
from tests.proxy import proxy_to


@pytest.fixture
async def settings(stack: Settings) -> Settings:
    await empty(stack)
    return quick(stack)


class Commands(list[AbstractIncomingMessage]):
    """What came out of the work queues, in order of arrival."""

    def of(self, order_id: str) -> list[AbstractIncomingMessage]:
        return [m for m in self if str(m.headers[f"{AMQP_PREFIX}subject"]) == order_id]


@pytest.fixture
async def commands(settings: Settings) -> AsyncIterator[Commands]:
    seen = Commands()
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        channel = await connection.channel()
        for name in Queue:
            queue = await channel.get_queue(name.value, ensure=False)
            await queue.purge()
            await queue.consume(seen.append, no_ack=True)  # type: ignore[arg-type]  # a plain function is taken, too
        yield seen


class Facts:
    """What came out of both topics since the test began."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._records: list[Any] = []

    async def of(self, order_id: str, topic: str = ORDERS_TOPIC) -> list[Any]:
        batches = await self._consumer.getmany(timeout_ms=20)
        self._records += [record for batch in batches.values() for record in batch]
        return [r for r in self._records if r.topic == topic and r.key == order_id.encode()]

    async def positions(self, order_id: str, topic: str = ORDERS_TOPIC) -> list[int | None]:
        return [_envelope(record).position for record in await self.of(order_id, topic)]


def _envelope(record: Any) -> Any:
    return open_envelope({name: value.decode() for name, value in record.headers}, KAFKA_PREFIX)


@pytest.fixture
async def facts(settings: Settings) -> AsyncIterator[Facts]:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, n) for topic in (ORDERS_TOPIC, AUDIT_TOPIC) for n in range(32)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        yield Facts(consumer)
    finally:
        await consumer.stop()


async def _depth(pool: Pool, lane: Broker) -> int:
    return next(status.depth for status in await lane_statuses(pool) if status.lane == lane)


async def _drained(pool: Pool) -> None:
    assert [status.depth for status in await lane_statuses(pool)] == [0, 0]


@asynccontextmanager
async def _kafka_relay(settings: Settings) -> AsyncIterator[Relay]:
    """One Kafka lane that the test moves step by step, with a pool of its own."""
    async with (
        open_pool(settings.postgres_dsn, service="relay-kafka", size=2) as own,
        open_producer(settings.kafka_bootstrap, service="tests", timeout_ms=2_000) as producer,
    ):
        yield Relay(own, KafkaLane(producer), settings)


async def test_a_fact_reaches_its_topic_with_its_attributes_and_leaves_the_outbox(
    settings: Settings, pool: Pool, facts: Facts
) -> None:
    order = await placed(pool)

    async def arrived() -> None:
        found = [*await facts.of(order.order_id), *await facts.of(order.order_id, AUDIT_TOPIC)]
        assert [record.topic for record in found] == [ORDERS_TOPIC, AUDIT_TOPIC]
        fact, audit = found
        headers = {name: value.decode() for name, value in fact.headers}
        stored = await pool.fetchrow("SELECT * FROM order_events WHERE order_id = $1", order.order_id)
        assert stored is not None
        assert (fact.value, audit.value) == (stored["fact"], stored["audit"])
        assert headers["ce_specversion"] == "1.0"
        assert headers["ce_id"] == stored["event_id"]
        assert headers["ce_type"] == "order.placed"
        assert headers["ce_source"] == "/rushline/orders"
        assert headers["ce_subject"] == order.order_id
        assert headers["ce_position"] == "1"
        assert headers["ce_schemaversion"] == "1"
        assert headers["correlationid"] == order.traceparent.split("-")[1]
        assert (_envelope(audit).id, _envelope(audit).position) == (stored["audit_id"], 1)
        assert fact.partition == audit.partition

    async with relaying(settings):
        await eventually(arrived)
        await eventually(lambda: _drained(pool))


async def test_a_command_reaches_its_queue_with_its_attributes_priority_and_id(
    settings: Settings, pool: Pool, commands: Commands
) -> None:
    order = await walked(pool, State.CANCELLED)

    async def arrived() -> None:
        by_type = {m.routing_key: m for m in commands.of(order.order_id)}
        assert set(by_type) == {"payment.charge", "restaurant.notify", "payment.refund", "restaurant.cancel"}
        refund, envelope = by_type["payment.refund"], open_envelope(by_type["payment.refund"].headers, AMQP_PREFIX)  # type: ignore[arg-type]
        assert refund.message_id == envelope.id
        assert envelope.id in order.pending
        assert (envelope.type, envelope.position, envelope.schema_version) == ("payment.refund", order.position, 1)
        assert {name: m.priority for name, m in by_type.items()} == {
            "payment.charge": 2, "restaurant.notify": 2, "payment.refund": 4, "restaurant.cancel": 4,
        }  # fmt: skip
        assert refund.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
        assert refund.content_type == "application/json"

    async with relaying(settings):
        await eventually(arrived)
        await eventually(lambda: _drained(pool))


async def test_the_facts_of_each_order_stand_in_order_in_one_partition(settings: Settings, pool: Pool, facts: Facts) -> None:
    async with relaying(settings):
        orders = await asyncio.gather(*(walked(pool, State.DELIVERED) for _ in range(10)))

        async def arrived() -> None:
            for order in orders:
                for topic in (ORDERS_TOPIC, AUDIT_TOPIC):
                    assert await facts.positions(order.order_id, topic) == list(range(1, order.position + 1))
                    assert len({record.partition for record in await facts.of(order.order_id, topic)}) == 1

        await eventually(arrived)


async def test_facts_flow_while_rabbitmq_is_away_and_commands_follow_when_it_is_back(
    settings: Settings, pool: Pool, facts: Facts, commands: Commands
) -> None:
    url = urlsplit(settings.rabbitmq_url)
    async with proxy_to(str(url.hostname), url.port or 5672) as proxy:
        there = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{proxy.port}").geturl()
        async with relaying(quick(settings, rabbitmq_url=there)):
            first = await placed(pool)

            async def both_arrived() -> None:
                assert len(commands.of(first.order_id)) == 1
                assert await facts.positions(first.order_id) == [1]

            await eventually(both_arrived)
            proxy.cut()
            orders = [await placed(pool) for _ in range(5)]

            async def facts_arrived() -> None:
                for order in orders:
                    assert await facts.positions(order.order_id) == [1]
                assert await _depth(pool, Broker.KAFKA) == 0
                assert await _depth(pool, Broker.RABBITMQ) == 5

            await eventually(facts_arrived)
            proxy.mend()

            async def commands_arrived() -> None:
                assert [len({m.message_id for m in commands.of(order.order_id)}) for order in orders] == [1] * 5

            await eventually(commands_arrived)
            await eventually(lambda: _drained(pool))


async def test_commands_cut_off_in_full_flight_all_arrive(settings: Settings, pool: Pool, commands: Commands) -> None:
    url = urlsplit(settings.rabbitmq_url)
    ids = [new_id("ord") for _ in range(1_500)]
    async with proxy_to(str(url.hostname), url.port or 5672) as proxy:
        there = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{proxy.port}").geturl()
        async with relaying(quick(settings, rabbitmq_url=there, publish_timeout_ms=10_000), (Broker.RABBITMQ,)):
            await enqueue(pool, [command_message(order_id) for order_id in ids])
            for already in (1, 500, 1_000):

                async def some_arrived(least: int = already) -> None:
                    assert len(commands) >= least

                await eventually(some_arrived)
                proxy.cut()
                proxy.mend()
            await eventually(lambda: _drained(pool))

    async def all_arrived() -> None:
        assert {str(m.headers[f"{AMQP_PREFIX}subject"]) for m in commands} == set(ids)

    await eventually(all_arrived)


async def test_commands_flow_while_kafka_is_away_and_facts_follow_when_it_is_back(
    settings: Settings, pool: Pool, facts: Facts, commands: Commands
) -> None:
    host, port = settings.kafka_bootstrap.rsplit(":", 1)
    async with proxy_to(host, int(port)) as proxy:
        proxy.cut()
        async with relaying(quick(settings, kafka_bootstrap=f"127.0.0.1:{proxy.port}")):
            order = await placed(pool)

            async def command_arrived() -> None:
                assert len(commands.of(order.order_id)) == 1
                assert await _depth(pool, Broker.RABBITMQ) == 0
                assert await _depth(pool, Broker.KAFKA) == 2

            await eventually(command_arrived)
            proxy.mend()

            async def facts_arrived() -> None:
                assert await facts.positions(order.order_id) == [1]

            await eventually(facts_arrived)


async def _aside(pool: Pool) -> dict[tuple[str, int], str]:
    rows = await pool.fetch("SELECT aggregate_id, position, reason FROM outbox_set_aside")
    return {(row["aggregate_id"], row["position"]): row["reason"] for row in rows}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [({"body": b"x" * 1_000_001}, "message-too-large"), ({"destination": "orders.nowhere"}, "refused-by-kafka")],
    ids=["a fact that is too large", "a topic that does not exist"],
)
async def test_a_refused_fact_is_set_aside_and_holds_back_only_its_own_orders_later_facts(
    settings: Settings, pool: Pool, facts: Facts, bad: dict[str, Any], reason: str
) -> None:
    sick, well = new_id("ord"), new_id("ord")
    topic = bad.get("destination", ORDERS_TOPIC)
    rows = [
        fact_row(sick, 1),
        fact_row(well, 1),
        fact_row(sick, 2, **bad),
        fact_row(sick, 3, destination=topic),
        fact_row(well, 2),
    ]
    async with relaying(settings, (Broker.KAFKA,)):
        await enqueue(pool, rows)

        async def held() -> None:
            aside = await _aside(pool)
            assert {key: text.split(":")[0] for key, text in aside.items()} == {(sick, 2): reason, (sick, 3): "waits-behind"}
            assert await facts.positions(well) == [1, 2]
            assert await facts.positions(sick) == [1]

        await eventually(held)
        await enqueue(pool, [fact_row(sick, 4, destination=topic), fact_row(well, 3), fact_row(sick, None)])

        async def still_held() -> None:
            assert (await _aside(pool)).get((sick, 4), "").startswith("waits-behind")
            assert await facts.positions(well) == [1, 2, 3]
            assert await facts.positions(sick) == [1, None]

        await eventually(still_held)
        await eventually(lambda: _drained(pool))


async def test_a_command_that_no_queue_takes_or_that_is_too_large_is_set_aside_with_its_reason(
    settings: Settings, pool: Pool, commands: Commands
) -> None:
    lost, large, well = (new_id("ord") for _ in range(3))
    rows = [command_message(lost, destination="nobody.listens"), command_message(large, body=b"x" * 1_000_001)]
    async with relaying(settings, (Broker.RABBITMQ,)):
        await enqueue(pool, [*rows, command_message(well)])

        async def aside() -> None:
            reasons = await _aside(pool)
            assert set(reasons) == {(lost, 1), (large, 1)}
            assert reasons[lost, 1].startswith("unroutable: ")
            assert "nobody.listens" in reasons[lost, 1]
            assert reasons[large, 1].startswith("message-too-large: 1000001 bytes")
            assert len(commands.of(well)) == 1

        await eventually(aside)
        assert [(s.depth, s.set_aside) for s in await lane_statuses(pool) if s.lane == "rabbitmq"] == [(0, 2)]


async def test_a_command_that_stands_twice_in_a_batch_is_published_once_and_both_rows_go(
    settings: Settings, pool: Pool, commands: Commands
) -> None:
    order_id = new_id("ord")
    await enqueue(pool, [command_message(order_id), command_message(order_id)])
    async with relaying(settings, (Broker.RABBITMQ,)):
        await eventually(lambda: _drained(pool))

        async def arrived() -> None:
            assert len(commands.of(order_id)) == 1

        await eventually(arrived)


async def _owner(pool: Pool) -> str | None:
    owner: str | None = await pool.fetchval("SELECT owner FROM leases WHERE name = 'relay-kafka' AND expires_at > now()")
    return owner


async def test_of_two_relays_one_works_and_the_other_takes_over_when_it_is_gone(
    settings: Settings, pool: Pool, facts: Facts
) -> None:
    async with relaying(settings, (Broker.KAFKA,)) as first:

        async def one_owns() -> None:
            assert await _owner(pool) is not None

        await eventually(one_owns)
        holder = await _owner(pool)
        async with relaying(settings, (Broker.KAFKA,)):
            order = await placed(pool)

            async def arrived() -> None:
                assert await facts.positions(order.order_id) == [1]

            await eventually(arrived)
            assert await _owner(pool) == holder
            assert len(await pool.fetch("SELECT FROM leases")) == 1
            first.cancel()
            order = await placed(pool)
            await eventually(arrived)
            assert await _owner(pool) not in (None, holder)
            await eventually(lambda: _drained_kafka(pool))


async def test_a_holder_that_is_paused_loses_its_lease_to_a_standby(settings: Settings, pool: Pool, facts: Facts) -> None:
    async with _kafka_relay(settings) as paused, _kafka_relay(settings) as standby:
        assert await paused.lease.hold()
        assert not await standby.lease.hold()

        async def taken_over() -> None:
            assert await standby.lease.hold()

        await eventually(taken_over)  # nobody renews the first one's lease meanwhile
        assert not await paused.lease.hold()
        order = await placed(pool)
        # What it still does after waking is harmless: the same positions twice.
        assert list(await asyncio.gather(standby.step(), paused.step())) == [2, 2]
        await _drained_kafka(pool)

        async def arrived() -> None:
            assert set(await facts.positions(order.order_id)) == {1}

        await eventually(arrived)


async def test_a_lane_that_dies_between_publishing_and_removing_publishes_again_and_loses_nothing(
    settings: Settings, pool: Pool, facts: Facts
) -> None:
    order = await walked(pool, State.RESTAURANT_NOTIFIED)
    async with open_producer(settings.kafka_bootstrap, service="tests", timeout_ms=2_000) as producer:
        records = await pool.fetch(sql.NEXT_ROWS, "kafka", 0, 500)
        rows = [OutboxRow(**{k: v for k, v in r.items() if k != "id"}) for r in records]
        assert await KafkaLane(producer).publish(rows) == [None] * 8  # and here it dies
    async with relaying(settings, (Broker.KAFKA,)):
        await eventually(lambda: _drained_kafka(pool))

    async def twice() -> None:
        assert await facts.positions(order.order_id) == [1, 2, 3, 4, 1, 2, 3, 4]
        ids = [_envelope(record).id for record in await facts.of(order.order_id)]
        assert ids[:4] == ids[4:]

    await eventually(twice)


async def _drained_kafka(pool: Pool) -> None:
    assert await _depth(pool, Broker.KAFKA) == 0


async def _look(relay: Relay) -> None:
    """A step that looks at the horizon now, not once a second."""
    relay._look_again = 0.0
    await relay.step()


async def test_rows_of_a_transaction_that_commits_late_are_published_though_the_mark_has_moved(
    settings: Settings, pool: Pool, facts: Facts
) -> None:
    late, early = new_id("ord"), new_id("ord")
    async with _kafka_relay(settings) as relay, connect(settings.postgres_dsn, service="late") as conn:
        transaction = conn.transaction()
        await transaction.start()
        await enqueue(conn, [fact_row(late, 1)])  # a lower id than those that commit now
        for _ in range(4):  # the newest transaction is the one that is still open
            await _look(relay)
        await enqueue(pool, [fact_row(early, 1)])
        for _ in range(4):
            await _look(relay)
        assert await facts.positions(early) == [1]
        await transaction.commit()
        assert await relay.step() == 1

        async def arrived() -> None:
            assert await facts.positions(late) == [1]

        await eventually(arrived)


async def test_an_open_snapshot_does_not_keep_the_mark_from_advancing(settings: Settings, pool: Pool) -> None:
    async with (
        _kafka_relay(settings) as relay,
        connect(settings.postgres_dsn, service="backup") as backup,
        backup.transaction(isolation="repeatable_read", readonly=True),
    ):
        await backup.fetchval("SELECT count(*) FROM outbox")
        await enqueue(pool, [fact_row(new_id("ord"), 1) for _ in range(50)])
        last = await pool.fetchval("SELECT max(id) FROM outbox")
        assert await relay.step() == 50

        async def advanced() -> None:
            await _look(relay)
            assert relay._low.mark >= last

        await eventually(advanced)
        assert await backup.fetchval("SELECT count(*) FROM outbox") == 0


async def test_every_change_of_many_orders_at_once_gets_out_while_two_relays_run(
    settings: Settings, pool: Pool, facts: Facts, commands: Commands
) -> None:
    async with relaying(settings), relaying(settings):
        orders = await asyncio.gather(*(placed(pool) for _ in range(30)))

        async def walk(order: Any) -> Any:
            for action in (*WAY_TO[State.PICKED_UP], Action.CANCEL):
                order = await apply(pool, change_of(action, order, order.updated_at))
            return order

        ended = await asyncio.gather(*map(walk, orders))
        await eventually(lambda: _drained(pool))

        async def arrived() -> None:
            for order in ended:
                assert set(await facts.positions(order.order_id)) == set(range(1, order.position + 1))
                assert {m.routing_key for m in commands.of(order.order_id)} == {
                    "payment.charge", "restaurant.notify", "driver.dispatch", "payment.refund", "restaurant.cancel", "driver.release",
                }  # fmt: skip

        await eventually(arrived)
    assert await _aside(pool) == {}
