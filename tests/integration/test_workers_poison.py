"""What nobody can use is quarantined with its bytes, never tried again, and keeps nobody else waiting."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import aio_pika
import aiohttp
import aiormq
import msgspec
import pytest
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from prometheus_client import REGISTRY

from adapters.rabbitmq_consumer import Delivery
from orders.envelope import MAX_BODY_BYTES
from orders.names import COMMANDS_EXCHANGE, DEAD_LETTERS, POISON, Command, Queue, State
from orders.order import Order
from orders.parking import ATTEMPTS, CONSUMER, FAILURE, LAST_MESSAGE, QUARANTINED_AT, REASON
from tests.fake_ports import FakePorts
from tests.integration.workers_ground import NAME, Ground, Letter, ground
from tests.making import eventually, placed
from tests.unit.test_workers_reading import nobody
from workers.isolation import MOST_STARTS, message_key

__all__ = ["ground"]


def _headers(order: Order, **changed: Any) -> dict[str, Any]:
    ((key, _),) = order.pending.items()
    headers = {"id": key, "type": "payment.charge", "subject": order.order_id, "schemaversion": "1", "position": "1", **changed}
    return {f"cloudEvents_{name}": value for name, value in headers.items() if value is not None}


async def _publish(ground: Ground, body: bytes, headers: dict[str, Any], key: str, message_id: str = "m") -> None:
    async with await aio_pika.connect(ground.settings.rabbitmq_url) as connection:
        exchange = await (await connection.channel()).get_exchange(COMMANDS_EXCHANGE)
        await exchange.publish(aio_pika.Message(body, headers=headers, priority=2, message_id=message_id), key)


async def _publish_without_id(ground: Ground, body: bytes, headers: dict[str, Any], key: str) -> None:
    """As the RabbitMQ UI does. A driver would make an id of its own."""
    message = {"routing_key": key, "payload": body.decode(), "payload_encoding": "string", "properties": {"headers": headers}}
    async with (
        aiohttp.ClientSession(ground.management, raise_for_status=True) as session,
        session.post(f"exchanges/{NAME}/{COMMANDS_EXCHANGE}/publish", json=message) as answer,
    ):
        assert (await answer.json())["routed"]


async def _quarantined(ground: Ground, fakes: FakePorts) -> Letter:
    """The one that is, beside a neighbour that is done."""
    neighbour = await placed(ground.pool)
    await ground.send(neighbour, Command.PAYMENT_CHARGE)

    async def settled() -> None:
        assert await ground.depth(POISON) == 1
        assert (await ground.order(neighbour.order_id)).state is State.PAYMENT_CONFIRMED

    async with ground.working(fakes):
        await eventually(settled)
    (letter,) = await ground.letters(POISON)
    for queue in (*Queue, "orders.retry.1m", DEAD_LETTERS):
        assert await ground.depth(queue) == 0
    return letter


@pytest.mark.parametrize(
    ("body", "changed", "key", "words"),
    [
        (b"\xff\xfe\x00", {}, "payment.charge", "payment.charge: "),
        (b"{}", {}, "payment.charge", "missing required field"),
        (None, {"type": "payment.steal"}, "payment.charge", "there is no command"),
        (None, {"schemaversion": "2"}, "payment.charge", "schema version 2"),
        (None, {"schemaversion": "two"}, "payment.charge", "not a number"),
        (None, {}, "driver.dispatch", "belongs in payments"),
        (None, {"type": "order.placed"}, "payment.charge", "belongs on Kafka"),
        (None, {"type": None}, "payment.charge", "no header"),
        (None, {"id": None}, "payment.charge", "no header"),
        (None, {"id": "'; DROP TABLE orders; --"}, "payment.charge", "not that of a command"),
        (None, {"id": bytearray(b"\xff\xfe")}, "payment.charge", "no header"),
    ],
)
async def test_each_kind_of_poison_is_quarantined_with_its_bytes_and_a_word_why(
    ground: Ground, body: bytes | None, changed: dict[str, Any], key: str, words: str
) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    ((_, entry),) = order.pending.items()
    sent = msgspec.json.encode(entry.body) if body is None else body
    headers = _headers(order, **changed)
    await _publish(ground, sent, headers, key)
    letter = await _quarantined(ground, fakes)
    assert (letter.body, letter.routing_key, letter.priority) == (sent, key, 2)
    assert {name: letter.headers[name] for name in headers} == headers
    assert (letter.headers[FAILURE], letter.headers[ATTEMPTS]) == ("invalid_message", "1")
    assert letter.headers[REASON] in ("invalid-message", "wrong-broker")
    assert letter.headers[CONSUMER] == key.split(".", maxsplit=1)[0] + "s"
    assert words in letter.headers[LAST_MESSAGE]
    assert letter.headers[QUARANTINED_AT]
    assert (await ground.order(order.order_id)).position == 1


async def test_ten_megabytes_are_quarantined_whole_and_never_looked_into(ground: Ground) -> None:
    fakes, order, body = FakePorts(), await placed(ground.pool), b"[" * 10_000_000
    before = REGISTRY.get_sample_value(
        "rushline_quarantined_total", {"queue": "payments", "reason": "message-too-large"}
    )  # fmt: skip
    await _publish(ground, body, _headers(order), "payment.charge")
    letter = await _quarantined(ground, fakes)
    assert letter.body == body
    assert letter.headers[REASON] == "message-too-large"
    assert letter.headers[LAST_MESSAGE] == f"10000000 bytes, at most {MAX_BODY_BYTES}"
    after = REGISTRY.get_sample_value("rushline_quarantined_total", {"queue": "payments", "reason": "message-too-large"})
    assert after == (before or 0) + 1


async def test_a_strangers_headers_that_fill_a_frame_do_not_keep_a_message_from_its_place(ground: Ground) -> None:
    order = await placed(ground.pool)
    await _publish(ground, b"?", {"strange": "x" * 120_000, **_headers(order)}, "payment.charge")
    letter = await _quarantined(ground, FakePorts())
    assert letter.body == b"?"
    assert letter.headers["strange"] == "x" * 200
    assert letter.headers["cloudEvents_subject"] == order.order_id


@pytest.mark.parametrize("message_id", ["strange", None, "nul\x00", "é" * 100])
async def test_what_killed_its_worker_often_enough_is_not_even_looked_into(ground: Ground, message_id: str | None) -> None:
    """As after the crashes: on record with its starts, and delivered again. Its order ends, or it would be issued again."""
    fakes, order = FakePorts(), await placed(ground.pool)
    fakes.payments.before["create"] = [asyncio.CancelledError()]  # let go once, so that it comes redelivered
    ((_, entry),) = order.pending.items()
    body = msgspec.json.encode(entry.body)
    if message_id is None:
        await _publish_without_id(ground, body, _headers(order), "payment.charge")
    else:
        await _publish(ground, body, _headers(order), "payment.charge", message_id)

    async def taken() -> None:
        assert fakes.payments.named("create")
        assert await ground.depth(Queue.PAYMENTS) == 0

    key = _key_of(body, message_id)
    await ground.pool.execute(
        """INSERT INTO started_commands VALUES ($1, $2, now())
           ON CONFLICT (message_key) DO UPDATE SET times = $2, started_at = now()""",
        key, MOST_STARTS,
    )  # fmt: skip
    async with ground.working(fakes, Queue.PAYMENTS):
        await eventually(taken)

        async def ended() -> None:
            assert (await ground.order(order.order_id)).state is State.PAYMENT_FAILED

        await eventually(ended)
    (letter,) = await ground.letters(POISON)
    assert (letter.body, letter.headers[REASON]) == (body, "kills-its-worker")
    assert len(fakes.payments.named("create")) == 1
    assert not await ground.pool.fetchval("SELECT count(*) FROM started_commands WHERE message_key = $1", key)


def _key_of(body: bytes, message_id: str | None) -> str:
    return message_key(
        Delivery(
            queue="payments",
            routing_key="",
            body=body,
            headers={},
            priority=0,
            message_id=message_id or "",
            redelivered=True,
            message=nobody(),
        )
    )


async def test_starts_that_lie_hours_apart_blame_nobody(ground: Ground) -> None:
    fakes, order = FakePorts(), await placed(ground.pool)
    fakes.payments.before["create"] = [asyncio.CancelledError()]
    key = await ground.send(order, Command.PAYMENT_CHARGE)
    await ground.pool.execute(
        "INSERT INTO started_commands VALUES ($1, $2, now() - interval '2 hours')", f"payments/{key}", MOST_STARTS
    )

    async def confirmed() -> None:
        assert (await ground.order(order.order_id)).state is State.PAYMENT_CONFIRMED

    async with ground.working(fakes, Queue.PAYMENTS):
        await eventually(confirmed)
    assert await ground.depth(POISON) == 0


@pytest.mark.parametrize("where", ["message id", "header name", "routing key", "time"])
@pytest.mark.parametrize("longer", [0, 110])  # spelled out, such bytes are longer than what may be sent again
async def test_what_the_driver_cannot_decode_does_not_stop_its_queue(ground: Ground, where: str, longer: int) -> None:
    """Bytes that are no text where the protocol wants a text: the broker passes them on."""
    name = "strange" + "x" * longer
    strange, mended = _short(name.encode()), _short(b"\xff\xferange" + b"\xff" * longer)
    there = datetime(2106, 1, 1, tzinfo=UTC)
    if where == "time":
        strange, mended = int(there.timestamp()).to_bytes(8), b"\x7f" * 8
    if where == "routing key":
        strange, mended = b"payment." + strange[1:], b"payment." + mended[1:]
    properties = Basic.Properties(
        headers={name if where == "header name" else "h": "x"},
        message_id=name if where == "message id" else "m",
        timestamp=there if where == "time" else None,
    )
    method = Basic.Publish(
        exchange=COMMANDS_EXCHANGE, routing_key=f"payment.{name}" if where == "routing key" else "payment.charge"
    )
    async with await aio_pika.connect(ground.settings.rabbitmq_url) as connection:
        beneath = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
        assert isinstance(beneath, aiormq.Channel)
        frames = ChannelFrame.marshall(
            beneath.number, [method, ContentHeader(body_size=1, properties=properties), ContentBody(b"?")]
        )
        assert strange in frames.payload
        await beneath.write_queue.put(ChannelFrame(payload=frames.payload.replace(strange, mended), should_close=False))
        letter = await _quarantined(ground, FakePorts())
    assert letter.body == b"?"


def _short(text: bytes) -> bytes:
    """As the protocol writes a short text."""
    return bytes([len(text)]) + text
