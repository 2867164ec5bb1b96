"""Whatever lies in a dead queue makes a letter that the database can hold."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders import parking
from orders.commands import command_id
from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX
from orders.failures import Category, FailureType
from orders.ids import derived_id, is_id, new_id
from orders.names import DEAD_LETTERS, POISON, Command
from outbox.letters.model import LetterState, Source
from outbox.letters.parked import Parked, letter_of

NOW = datetime(2026, 3, 14, 18, 30, tzinfo=UTC)
ORDER = new_id("ord")
KEY = command_id(ORDER, 2, Command.PAYMENT_CHARGE)
SENT = {
    f"{AMQP_PREFIX}id": KEY, f"{AMQP_PREFIX}type": "payment.charge", f"{AMQP_PREFIX}subject": ORDER,
    f"{AMQP_PREFIX}schemaversion": "1", f"{AMQP_PREFIX}position": "2",
}  # fmt: skip
TRAIL = {
    parking.ATTEMPTS: "4", parking.FIRST_FAILED_AT: "2026-03-14T18:00:00+00:00", parking.PARKED_AT: "2026-03-14T18:21:00+00:00",
    parking.LAST_ERROR: "ProviderUnavailable", parking.LAST_MESSAGE: "no answer", parking.FAILURE: "payment_timeout",
    parking.CONSUMER: "payments", parking.REASON: "attempts-spent",
}  # fmt: skip

_anything = st.one_of(
    st.text(), st.binary(), st.integers(), st.booleans(), st.none(), st.floats(), st.datetimes(),
    st.dictionaries(st.text(), st.text()), st.lists(st.text()),
)  # fmt: skip
_names = st.one_of(st.text(), st.sampled_from([*SENT, *TRAIL, parking.LETTER, parking.TOPIC, parking.OFFSET, "x-death"]))


def parked(headers: dict[str, Any], **values: Any) -> Parked:
    given = {"queue": DEAD_LETTERS, "routing_key": "payment.charge", "body": b"{}", "message_id": KEY, "priority": 2, **values}
    return Parked(headers=headers, **given)


@given(
    headers=st.dictionaries(_names, _anything),
    body=st.binary(),
    routing_key=st.text(max_size=255),
    message_id=st.text(max_size=255),
    queue=st.sampled_from([DEAD_LETTERS, POISON]),
)
def test_every_message_makes_a_letter_and_a_copy_of_it_the_same(
    headers: dict[str, Any], body: bytes, routing_key: str, message_id: str, queue: str
) -> None:
    message = Parked(queue=queue, routing_key=routing_key, headers=headers, body=body, message_id=message_id, priority=0)
    letter = letter_of(message, NOW)
    assert letter_of(message, NOW) == letter
    assert letter.body == body
    written = msgspec.json.encode(letter).decode()
    assert "\\u0000" not in written.replace("\\\\", "")
    assert is_id(letter.letter_id, "let")
    assert letter.parked_at <= NOW
    for name in ("message_id", "consumer", "type", "reason", "error"):
        assert len(getattr(letter, name)) <= 200
    assert letter.state is LetterState.OPEN


def test_a_letter_holds_what_the_worker_wrote_beside_the_message() -> None:
    letter = letter_of(parked({**SENT, **TRAIL}), NOW)
    assert (letter.message_id, letter.consumer, letter.type, letter.order_id) == (KEY, "payments", "payment.charge", ORDER)
    assert (letter.failure_type, letter.category) == (FailureType.PAYMENT_TIMEOUT, Category.TRANSIENT)
    assert (letter.attempts, letter.reason, letter.error, letter.message) == (
        4, "attempts-spent", "ProviderUnavailable", "no answer",
    )  # fmt: skip
    assert letter.first_failed_at == datetime(2026, 3, 14, 18, tzinfo=UTC)
    assert letter.last_failed_at == letter.parked_at == datetime(2026, 3, 14, 18, 21, tzinfo=UTC)
    assert (letter.schema_version, letter.position, letter.source) == (1, 2, Source.COMMAND)


def test_what_is_in_quarantine_is_poison_whatever_its_headers_say() -> None:
    letter = letter_of(parked({**SENT, **TRAIL}, queue=POISON), NOW)
    assert (letter.failure_type, letter.category) == (FailureType.INVALID_MESSAGE, Category.POISON)
    assert letter.quarantined_at is not None


def test_a_message_without_any_header_is_known_by_its_body_and_its_routing_key() -> None:
    one, other = (letter_of(parked({}, body=body, message_id=""), NOW) for body in (b"\x00\xff", b"\x00\xfe"))
    assert one.letter_id != other.letter_id
    assert one.consumer == "payments"
    assert (one.type, one.order_id, one.attempts, one.parked_at) == ("", None, 1, NOW)


def test_two_bad_messages_that_claim_one_id_that_is_none_of_ours_are_two_letters() -> None:
    one, other = (letter_of(parked({}, body=body, message_id="1"), NOW) for body in (b"a", b"b"))
    assert one.letter_id != other.letter_id


def test_a_message_that_was_sent_again_is_the_letter_that_it_was() -> None:
    was = derived_id("let", "x", "y")
    assert letter_of(parked({**SENT, **TRAIL, parking.LETTER: was}), NOW).letter_id == was


def test_a_fact_that_a_stream_parked_says_where_it_was_read() -> None:
    event = derived_id("evt", ORDER, 3)
    headers = {
        f"{KAFKA_PREFIX}id": event, f"{KAFKA_PREFIX}type": "order.placed", f"{KAFKA_PREFIX}subject": ORDER,
        f"{KAFKA_PREFIX}schemaversion": "1", f"{KAFKA_PREFIX}position": "3", parking.TOPIC: "orders.events",
        parking.PARTITION: "7", parking.OFFSET: str(2**40), parking.CONSUMER: "fraud", parking.PARKED_AT: NOW.isoformat(),
    }  # fmt: skip
    letter = letter_of(parked(headers, message_id=""), NOW)
    assert (letter.source, letter.message_id, letter.consumer) == (Source.FACT, event, "fraud")
    assert (letter.topic, letter.partition, letter.kafka_offset, letter.position) == ("orders.events", 7, 2**40, 3)


def test_a_time_to_come_is_not_believed() -> None:
    later = (NOW + timedelta(days=400)).isoformat()
    letter = letter_of(parked({**SENT, parking.PARKED_AT: later, parking.LAST_FAILED_AT: later}), NOW)
    assert letter.parked_at == letter.last_failed_at == NOW


def test_types_that_nobody_knows_are_of_one_kind() -> None:
    one, other = (letter_of(parked({**SENT, **TRAIL, f"{AMQP_PREFIX}type": kind}), NOW) for kind in ("no.such", "nor.this"))
    assert (one.type, other.type) == ("no.such", "nor.this")
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("ours", ["x-death", "x-first-death-queue"])
def test_what_the_broker_says_of_a_trip_is_no_part_of_the_letter(ours: str) -> None:
    assert ours not in letter_of(parked({**SENT, ours: [{"count": 1}]}), NOW).headers
