"""Reading a delivery: what is a task, and what nobody can read."""

from typing import Any

import msgspec
import pytest
from pamqp.encode import field_table

from adapters.rabbitmq_consumer import Delivery, Settles
from orders.commands import ChargePayment, command_id
from orders.errors import BadMessage
from orders.ids import new_id
from orders.names import Command
from orders.parking import ATTEMPTS, FIRST_FAILED_AT
from orders.tiers import TIERS
from tests.making import NOW
from workers.judge import Wait
from workers.moves import Mover
from workers.task import read
from workers.trail import attempts

ORDER = new_id("ord")
KEY = command_id(ORDER, 1, Command.PAYMENT_CHARGE)


class _Nobody:
    channel = None

    async def ack(self) -> None: ...
    async def nack(self, *, requeue: bool = True) -> None: ...


def nobody() -> Settles:
    """Settles nothing."""
    return _Nobody()


def _delivery(body: Any = None, queue: str = "payments", **changed: Any) -> Delivery:
    headers = {"cloudEvents_id": KEY, "cloudEvents_type": "payment.charge", "cloudEvents_subject": ORDER,
               "cloudEvents_schemaversion": "1", "traceparent": "00-a-b-01", "x-death": [{"count": 1}]}  # fmt: skip
    headers |= {f"cloudEvents_{name}": value for name, value in changed.items()}
    headers = {name: value for name, value in headers.items() if value is not None}
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body or {"order_id": ORDER, "position": 1})
    return Delivery(
        queue=queue, routing_key="payment.charge", body=raw, headers=headers, priority=2, message_id=KEY, redelivered=False,
        message=_Nobody(),
    )  # fmt: skip


def test_a_command_is_read_with_its_identity_and_trace() -> None:
    task = read(_delivery())
    assert (task.id, task.kind, task.traceparent) == (KEY, Command.PAYMENT_CHARGE, "00-a-b-01")
    assert task.body == ChargePayment(order_id=ORDER, position=1)
    assert task.service == "worker-payments"


@pytest.mark.parametrize(
    "delivery",
    [
        _delivery(b"{"),
        _delivery(b"\xff\xfe"),
        _delivery(b"[]"),
        _delivery({"order_id": ORDER}),
        _delivery({"order_id": 7, "position": 1}),
        _delivery({"order_id": "ord_\x00", "position": 1}),
        _delivery({"order_id": "'; DROP TABLE orders", "position": 1}),
        _delivery(type="payment.steal"),
        _delivery(type=None),
        _delivery(id=None),
        _delivery(id="cmd_\x00"),
        _delivery(id=b"\xff"),
        _delivery(schemaversion="2"),
        _delivery(schemaversion="one"),
        _delivery(queue="drivers"),
        _delivery(b"[" * 1_000_001),
        _delivery(type="order.placed"),
    ],
)
def test_what_nobody_can_read_is_a_bad_message(delivery: Delivery) -> None:
    with pytest.raises(BadMessage):
        read(delivery)


@pytest.mark.parametrize(("header", "count"), [("2", 2), (2, 2), ("many", 0), ("-1", 0), (None, 0), (["3"], 0)])
def test_attempts_are_counted_from_the_header_and_from_nothing_else(header: Any, count: int) -> None:
    assert attempts({"rushline-attempts": header}) == count


class _Published:
    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []

    async def publish(self, *message: Any) -> None:
        self.messages.append(message)


async def test_what_goes_to_a_tier_keeps_its_body_and_its_first_failure_and_can_always_be_sent() -> None:
    published, delivery = _Published(), _delivery(strange=b"\xff", deep={"a": [b"\xfe"]})
    await Mover(published, 60.0).to_tier(delivery, Wait(TIERS[1]), ValueError("x" * 1_000), NOW)
    ((exchange, key, body, headers, priority, message_id, expiration_ms),) = published.messages
    assert (exchange, key, body, message_id) == ("orders.retry.5m", "payment.charge", delivery.body, KEY)
    assert (priority, expiration_ms) == (3, 5_000)
    assert (headers[ATTEMPTS], headers[FIRST_FAILED_AT]) == ("1", NOW.isoformat())
    assert "x-death" not in headers
    assert len(field_table(headers)) < 2_000
