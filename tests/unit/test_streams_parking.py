"""What follows from a fact's failure: the tier it waits in, or the letter that it becomes."""

from datetime import UTC, datetime

import msgspec
import pytest

from adapters.kafka_consumer import Partition, Record
from orders import parking
from orders.commands import WakeOrder, read_command
from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX, attributes
from orders.errors import BadMessage, CallAnOperator, DependencyDown, RetryLater
from orders.failures import Category, FailureType
from orders.names import State
from orders.tiers import TIERS
from outbox.lanes import MAX_HEADER_BYTES
from outbox.letters.ingest import Parked, letter_of
from outbox.letters.model import Source, letter_id
from streams.audit import Audit
from streams.group import Group, Incoming, Kind, Problem, receive
from streams.parking import Held, letter_row, tier_after, trail, wake_up
from streams.support import Support
from tests.integration.streams_making import audits, facts, journey

NOW = datetime(2025, 3, 14, 18, 31, tzinfo=UTC)
ROW = facts(journey(State.PLACED), "orders.events")[0]
SUPPORT = Support()


def _read(headers: dict[str, str], body: bytes, group: Group = SUPPORT, key: str | None = ROW.aggregate_id) -> Incoming:
    return receive(Record(Partition(group.topic, 3), 17, key.encode() if key else None, headers, body), group)


def _letter(item: Incoming, problem: Problem, attempts: int = 4, group: Group = SUPPORT) -> tuple[Parked, Source]:
    held = Held(
        partition=item.partition, offset=item.offset, order_id=item.order_id, position=item.position, headers=item.headers,
        body=item.body,
    )  # fmt: skip
    row = letter_row(held, trail(group, item, problem, attempts, NOW), NOW)
    headers = attributes(row, AMQP_PREFIX)
    queue = row.destination.removesuffix("/")
    return Parked(queue=queue, routing_key="", headers=headers, body=row.body, message_id=row.event_id, priority=0), Source.FACT


FAILED = Problem.of(Kind.FAILED, ValueError("no such thing"))


@pytest.mark.parametrize(("attempts", "expected"), [(1, TIERS[0]), (2, TIERS[1]), (3, TIERS[2]), (4, None), (9, None)])
@pytest.mark.parametrize("error", [ValueError("x"), RetryLater("x"), DependencyDown("x")])
def test_a_failure_that_may_pass_waits_in_tier_after_tier(error: Exception, attempts: int, expected: object) -> None:
    assert tier_after(Problem.of(Kind.FAILED, error), attempts) == expected


@pytest.mark.parametrize("error", [CallAnOperator("x"), BadMessage("x")])
def test_a_failure_that_cannot_pass_is_parked_at_once(error: Exception) -> None:
    assert tier_after(Problem.of(Kind.FAILED, error), 1) is None
    assert tier_after(Problem.of(Kind.UNREADABLE, error), 1) is None


def test_an_error_with_a_name_keeps_its_type_and_one_without_shows_where_it_comes_from() -> None:
    typed = Problem.of(Kind.FAILED, DependencyDown("away"))
    assert (typed.failure, typed.slug, typed.stack) == (FailureType.SERVICE_UNAVAILABLE, "dependency-down", "")
    assert (FAILED.failure, FAILED.slug, FAILED.error) == (FailureType.UNKNOWN, "unknown", "ValueError")
    assert FAILED.stack == "ValueError: no such thing\n"


def test_a_wake_up_is_a_command_on_its_way_to_a_tier() -> None:
    row = wake_up(SUPPORT, _read(attributes(ROW, KAFKA_PREFIX), ROW.body), TIERS[1], 2, 0.75, NOW)
    assert (row.destination, row.headers[parking.WAIT_MS]) == ("orders.retry.5m/order.wake", "750")
    _, body = read_command(row.type, row.schema_version, row.body)
    assert body == WakeOrder(order_id=ROW.aggregate_id, position=1, group="support", attempt=2)


def test_a_letter_is_read_back_as_the_fact_that_it_is() -> None:
    item = _read(attributes(ROW, KAFKA_PREFIX), ROW.body)
    letter = letter_of(_letter(item, FAILED)[0], NOW)
    assert (letter.source, letter.message_id, letter.consumer, letter.queue) == (
        Source.FACT,
        ROW.event_id,
        "support",
        "orders.dlq",
    )
    assert (letter.order_id, letter.type, letter.position, letter.schema_version) == (ROW.aggregate_id, ROW.type, 1, 1)
    assert (letter.topic, letter.partition, letter.kafka_offset) == ("orders.events", 3, 17)
    assert (letter.attempts, letter.category, letter.reason, letter.error) == (4, Category.TRANSIENT, "unknown", "ValueError")
    assert letter.letter_id == letter_id(ROW.event_id, "support")


def test_an_audit_events_letter_has_its_own_id() -> None:
    row, group = audits(journey(State.PLACED), "audit.events")[0], Audit()
    item = _read(attributes(row, KAFKA_PREFIX), row.body, group, row.aggregate_id)
    letter = letter_of(_letter(item, FAILED, group=group)[0], NOW)
    assert (letter.message_id, letter.headers[parking.HELD_IN]) == (row.event_id, "audit")


def test_what_cannot_be_read_is_quarantined_with_an_id_made_of_where_it_lies() -> None:
    item = _read(attributes(ROW, KAFKA_PREFIX), b"\x00\xff")
    assert item.problem is not None
    letter = letter_of(_letter(item, item.problem, 1)[0], NOW)
    assert (letter.queue, letter.category, letter.quarantined_at) == ("orders.dlq.poison", Category.POISON, NOW)
    assert (letter.body, letter.failure_type) == (b"\x00\xff", FailureType.INVALID_MESSAGE)
    assert letter.message_id not in {ROW.event_id, ""}
    elsewhere = msgspec.structs.replace(item, offset=18)
    assert letter_of(_letter(elsewhere, item.problem, 1)[0], NOW).letter_id != letter.letter_id


def test_a_fact_that_is_parked_again_is_the_same_letter_in_another_message() -> None:
    item = _read(attributes(ROW, KAFKA_PREFIX), ROW.body)
    held = Held(partition=item.partition, offset=17, order_id=item.order_id, position=1, headers=item.headers, body=item.body)
    first, again = (letter_row(held, trail(SUPPORT, item, FAILED, 4, at), at) for at in (NOW, NOW.replace(minute=59)))
    assert first.headers[parking.LETTER] == again.headers[parking.LETTER]
    assert first.event_id != again.event_id


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ce_schemaversion": "9" * 400, "ce_position": "-7", "ce_type": "\x00"},
        {"n" * 400: "1", "x": "y" * 900_000, **{f"h{n}": "z" * 7_000 for n in range(50)}},
        {parking.LETTER: "let_1", parking.ATTEMPTS: "77", "quarantined_at": "never", "cloudEvents_id": "cmd_1"},
    ],
    ids=["none", "nonsense", "a megabyte of them", "those of another failure"],
)
def test_whatever_headers_a_record_has_its_letter_can_be_sent_and_read(headers: dict[str, str]) -> None:
    item = _read(headers, b"", key=None)
    assert item.problem is not None
    parked, _ = _letter(item, item.problem, 1)
    assert sum(len(name.encode()) + len(value.encode()) for name, value in parked.headers.items()) < MAX_HEADER_BYTES
    assert all(len(name) <= 255 for name in parked.headers)
    letter = letter_of(parked, NOW)
    assert (letter.attempts, letter.quarantined_at, letter.letter_id) == (1, NOW, letter_id(letter.message_id, "support"))
