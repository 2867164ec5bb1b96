"""How a message looks on each broker."""

import re
from datetime import UTC, datetime

import pytest

from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX, Broker, attributes, new_traceparent, open_envelope, trace_id
from orders.errors import BadMessage
from tests.making import NOW, fact_row

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ROW = fact_row("ord_1", 7, occurred_at=NOW, headers={"traceparent": TRACE})


@pytest.mark.parametrize("prefix", [KAFKA_PREFIX, AMQP_PREFIX])
def test_a_message_carries_the_cloudevents_attributes_the_position_and_the_trace(prefix: str) -> None:
    assert attributes(ROW, prefix) == {
        f"{prefix}specversion": "1.0",
        f"{prefix}id": ROW.event_id,
        f"{prefix}type": "order.placed",
        f"{prefix}source": "/rushline/orders",
        f"{prefix}subject": "ord_1",
        f"{prefix}time": "2025-03-14T18:30:00+00:00",
        f"{prefix}schemaversion": "1",
        f"{prefix}position": "7",
        "traceparent": TRACE,
    }


@pytest.mark.parametrize("prefix", [KAFKA_PREFIX, AMQP_PREFIX])
def test_what_was_sent_is_what_is_read(prefix: str) -> None:
    envelope = open_envelope(attributes(ROW, prefix), prefix)
    assert (envelope.id, envelope.type, envelope.subject) == (ROW.event_id, "order.placed", "ord_1")
    assert (envelope.schema_version, envelope.position, envelope.traceparent) == (1, 7, TRACE)
    assert datetime.fromisoformat(envelope.time) == NOW.astimezone(UTC)


def test_what_is_no_step_of_an_order_has_no_position() -> None:
    headers = attributes(fact_row("ord_1", None), KAFKA_PREFIX)
    assert "ce_position" not in headers
    assert open_envelope(headers, KAFKA_PREFIX).position is None


@pytest.mark.parametrize("missing", ["id", "type", "subject", "schemaversion"])
def test_a_message_without_a_needed_header_is_bad_and_names_it(missing: str) -> None:
    headers = attributes(ROW, KAFKA_PREFIX)
    del headers[f"ce_{missing}"]
    with pytest.raises(BadMessage, match=f"ce_{missing}"):
        open_envelope(headers, KAFKA_PREFIX)


@pytest.mark.parametrize("name", ["position", "schemaversion"])
@pytest.mark.parametrize("text", ["", "one", "1.0", "0x1"])
def test_a_header_that_is_not_a_number_makes_a_bad_message(name: str, text: str) -> None:
    with pytest.raises(BadMessage, match="not a number"):
        open_envelope({**attributes(ROW, KAFKA_PREFIX), f"ce_{name}": text}, KAFKA_PREFIX)


def test_a_new_traceparent_is_as_w3c_writes_it() -> None:
    made = new_traceparent()
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", made)
    assert trace_id(made) == made[3:35]


@pytest.mark.parametrize("text", ["", "nothing", "00-abc", "00-a-b-c-d"])
def test_what_is_no_traceparent_belongs_to_no_trace(text: str) -> None:
    assert trace_id(text) == ""


def test_there_are_two_lanes() -> None:
    assert {lane.value for lane in Broker} == {"rabbitmq", "kafka"}
