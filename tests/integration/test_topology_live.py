"""Real brokers are given the declared shape, differences are shown, and nothing with messages in it is replaced."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import aiohttp
import msgspec
import pytest
from aio_pika.exceptions import ChannelClosed, DeliveryError

from adapters import topology
from adapters.settings import Settings, load_settings
from adapters.topology_declared import TopologyError
from stack import local
from stack.ports import Ports

pytestmark = pytest.mark.timeout(300)  # the first start on a machine fetches RabbitMQ and Kafka


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home: Path = tmp_path_factory.mktemp("brokers")
    try:
        addresses = local.start(home, Ports.free(), only=["rabbitmq", "kafka"])
        settings = load_settings(addresses.settings, home / "none")
        asyncio.run(_first_time(settings))
        yield settings
    finally:
        local.stop(home, purge=True)


async def _first_time(settings: Settings) -> None:
    """On fresh brokers everything is missing, a dry run changes nothing, and applying makes it all."""
    absent = await topology.missing(settings)
    assert "rabbitmq queue payments" in absent
    assert "kafka topic audit.events" in absent
    would = await topology.apply(settings, dry_run=True)
    assert await topology.missing(settings) == absent
    assert await topology.apply(settings) == would


async def _call(settings: Settings, method: str, path: str, **body: object) -> None:
    url = f"{settings.rabbitmq_management_url}/api/{path}"
    async with aiohttp.ClientSession(raise_for_status=True) as session, session.request(method, url, json=body):
        pass


async def test_what_was_applied_neither_differs_nor_is_missed(servers: Settings) -> None:
    assert await topology.diff(servers) == []
    assert await topology.missing(servers) == []
    assert await topology.apply(servers) == []


async def test_retention_follows_its_setting(servers: Settings) -> None:
    shorter = msgspec.structs.replace(servers, kafka_retention_hours=24)
    assert {each.name for each in await topology.diff(shorter)} == {"orders.events", "audit.events"}
    await topology.apply(shorter)
    assert await topology.diff(shorter) == []
    await topology.apply(servers)


async def test_a_binding_of_somebody_else_on_our_exchange_is_removed_and_a_missing_one_made(servers: Settings) -> None:
    await _call(servers, "POST", "bindings/%2F/e/commands/q/orders", routing_key="payment.*")
    await _call(servers, "DELETE", "bindings/%2F/e/orders.dlq/q/orders.dlq/~")
    assert sorted(each.problem for each in await topology.diff(servers)) == ["extra", "missing"]
    await topology.apply(servers)
    assert await topology.diff(servers) == []


async def test_a_queue_with_other_arguments_is_refused_with_the_remedy_and_left_alone(servers: Settings) -> None:
    await _call(servers, "DELETE", "queues/%2F/drivers")
    await _call(servers, "PUT", "queues/%2F/drivers", durable=True, arguments={"x-max-priority": 2})
    with pytest.raises(TopologyError, match="rabbitmq queue drivers: different") as refused:
        await topology.apply(servers)
    assert "Drain" in refused.value.remedy
    (difference,) = [each for each in await topology.diff(servers) if each.kind == "queue"]
    assert (difference.name, difference.by_hand) == ("drivers", True)
    await _call(servers, "DELETE", "queues/%2F/drivers")
    await topology.apply(servers)


async def test_the_processes_user_can_publish_and_consume_and_declare_nothing(servers: Settings) -> None:
    async with await aio_pika.connect(servers.rabbitmq_url) as connection:
        channel = await connection.channel()
        commands = await channel.get_exchange("commands")
        await commands.publish(aio_pika.Message(b"{}"), "order.cancel", mandatory=True)
        message = await (await channel.get_queue("orders")).get(timeout=5)
        await message.ack()
        with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
            await channel.declare_queue("mine")


async def test_a_command_that_nobody_takes_comes_back_to_its_publisher(servers: Settings) -> None:
    async with await aio_pika.connect(servers.rabbitmq_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        commands = await channel.get_exchange("commands")
        with pytest.raises(DeliveryError):
            await commands.publish(aio_pika.Message(b"{}"), "weather.forecast", mandatory=True)


async def test_a_tier_gives_a_command_back_to_its_queue_with_key_headers_and_priority(servers: Settings) -> None:
    async with await aio_pika.connect(servers.rabbitmq_url) as connection:
        channel = await connection.channel()
        tier = await channel.get_exchange("orders.retry.1m")
        waiting = aio_pika.Message(b"{}", headers={"attempt": 2}, priority=3, expiration=0.1, delivery_mode=2)
        await tier.publish(waiting, "payment.charge")
        payments = await channel.get_queue("payments")
        async with payments.iterator(timeout=20) as arriving:
            back = await anext(arriving)
            await back.ack()
        assert (back.routing_key, back.headers["attempt"], back.priority) == ("payment.charge", 2, 3)


async def test_urgent_commands_overtake_others_in_a_work_queue(servers: Settings) -> None:
    async with await aio_pika.connect(servers.rabbitmq_url) as connection:
        channel = await connection.channel()
        commands = await channel.get_exchange("commands")
        for priority in (1, 4, 2):
            await commands.publish(aio_pika.Message(b"", priority=priority), "restaurant.notify")
        restaurants = await channel.get_queue("restaurants")
        taken = [await restaurants.get(timeout=5) for _ in range(3)]
        assert [message.priority for message in taken] == [4, 2, 1]
        for message in taken:
            await message.ack()


async def test_a_wrong_user_is_told_which_setting_to_see(servers: Settings) -> None:
    wrong = servers.rabbitmq_management_url.replace("rushline:", "rushline:x")
    with pytest.raises(TopologyError, match="refuses the user") as refused:
        await topology.diff(msgspec.structs.replace(servers, rabbitmq_management_url=wrong))
    assert "RUSHLINE_RABBITMQ_MANAGEMENT_URL" in refused.value.remedy
