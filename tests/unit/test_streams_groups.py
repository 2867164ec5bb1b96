"""What a batch of facts adds up to, and what becomes of messages that nobody can read."""

from datetime import timedelta

import pytest

from adapters.kafka_consumer import Partition, Record
from audit import ledger
from audit.events import AHEAD, read_event
from orders.envelope import KAFKA_PREFIX, Envelope, attributes
from orders.facts import FactBody
from orders.names import State
from streams.analytics import Analytics, added
from streams.fraud import Fraud
from streams.group import Group, Incoming, Kind, Problem, receive
from streams.support import told
from tests.integration.streams_making import audits, facts, journey
from tests.making import NOW


def _record(headers: dict[str, str], body: bytes) -> Record:
    return Record(Partition("orders.events", 0), 0, headers.get("ce_subject", "ord_1").encode(), headers, body)


def _good() -> tuple[dict[str, str], bytes]:
    row = facts(journey(State.PLACED), "orders.events")[0]
    return attributes(row, KAFKA_PREFIX), row.body


def _received(headers: dict[str, str], body: bytes, group: Group | None = None) -> Incoming:
    return receive(_record(headers, body), group or Analytics())


def test_a_fact_is_read_with_its_order_and_position() -> None:
    item = _received(*_good())
    assert (item.problem, item.position) == (None, 1)
    assert item.order_id == item.fact.order_id


def test_a_fact_that_must_not_be_looked_into_keeps_its_place_in_line() -> None:
    class Untouchable(Analytics):
        def read(self, envelope: Envelope, body: bytes) -> FactBody:
            raise AssertionError(envelope, body)

    why = Problem(Kind.FAILED, "it kills")
    headers, body = _good()
    item = receive(_record(headers, body), Untouchable(topic="t"), unread=why)
    assert (item.problem, item.position, item.order_id, item.fact) == (why, 1, headers["ce_subject"], None)
    assert receive(_record({}, body), Untouchable(topic="t"), unread=why).problem == why


def test_every_kind_of_unreadable_message_says_what_is_wrong() -> None:
    headers, body = _good()
    for broken, content in (
        ({}, body),
        ({**headers, "ce_position": "one"}, body),
        ({**headers, "ce_position": "0"}, body),
        ({**headers, "ce_position": "99999999999"}, body),
        ({**headers, "ce_position": "7"}, body),
        ({**headers, "ce_schemaversion": "99"}, body),
        ({**headers, "ce_subject": "ord_2"}, body),
        ({**headers, "ce_subject": "x" * 5_000}, body),
        ({**headers, "ce_subject": "a\x00b"}, body),
        ({**headers, "ce_type": "payment.confirmed"}, body),
        (headers, b""),
        (headers, b"\xff\xfe"),
        (headers, b"[" * 100_000),
        (headers, b'{"order_id": 7}'),
    ):
        item = _received(broken, content)
        assert item.problem is not None
        assert item.problem.kind is Kind.UNREADABLE
        assert item.problem.reason
        assert len(item.order_id) <= 100


@pytest.mark.parametrize("key", [None, b"", b"ord_2"])
def test_a_record_whose_key_is_not_its_subject_has_no_place_in_line(key: bytes | None) -> None:
    headers, body = _good()
    item = receive(Record(Partition("orders.events", 0), 0, key, headers, body), Analytics())
    assert item.problem is not None
    assert (item.problem.kind, item.position, item.key) == (Kind.UNREADABLE, None, key)


def test_fraud_does_not_read_an_order_without_an_address_on_earth() -> None:
    headers, body = _good()
    assert _received(headers, body, Fraud()).problem is None
    assert _received(headers, body.replace(b"52.09", b"152.09"), Fraud()).problem is not None


def test_analytics_adds_counts_amounts_and_times() -> None:
    later = NOW + timedelta(minutes=2)
    changes = journey(State.DELIVERED)
    read = [receive(_record(attributes(r, KAFKA_PREFIX), r.body), Analytics()).fact for r in facts(changes, "t")]
    minutes = added(read, {read[0].order_id: NOW - timedelta(seconds=3)})
    (key, row), *none = minutes.items()
    assert (key[0], key[1], none) == (NOW, "Utrecht", [])
    assert (row["placed"], row["completed"], row["captured"], row["paid_count"], row["paid_ms"]) == (1, 1, 3_200, 1, 3_000)
    assert later not in {each[0] for each in minutes}


def test_support_sees_one_row_for_all_that_a_batch_says_about_an_order() -> None:
    read = [receive(_record(attributes(r, KAFKA_PREFIX), r.body), Analytics()).fact for r in facts(journey(), "t")]
    (row,) = told(read)
    assert (row.state, row.position, row.last_fact, row.captured) == ("delivered", 9, "order.completed", 3_200)
    assert None not in {row.placed_at, row.paid_at, row.accepted_at, row.driver_at, row.delivered_at, row.ended_at}


def test_the_ledger_links_what_fits_and_names_what_does_not() -> None:
    events = [read_event(1, row.body) for row in audits(journey(), "t")]
    good, broken = ledger.link(events, {}, NOW)
    assert (len(good), broken) == (9, [])
    good, broken = ledger.link(events[:3] + events[4:], {}, NOW)
    assert [event.position for event, _ in broken] == [5]
    assert len(good) == 7


def test_an_edited_audit_event_is_evidence_and_one_finding() -> None:
    bodies = [row.body for row in audits(journey(), "t")]
    bodies[2] = bodies[2].replace(b"system", b"nobody")
    events = [read_event(1, body) for body in bodies]
    good, broken = ledger.link(events, {}, NOW)
    assert [(event.position, reason) for event, reason in broken] == [(3, "its hash is not the hash of its contents")]
    assert len(good) == 8


def test_an_audit_event_from_the_future_is_set_aside_and_its_chain_goes_on() -> None:
    events = [read_event(1, row.body) for row in audits(journey(at=NOW), "t")]
    good, broken = ledger.link(events, {}, NOW - AHEAD - timedelta(seconds=1))
    assert (good, {reason[:25] for _, reason in broken}) == ([], {"it is from the future: 20"})
    assert ledger.link(events, {}, NOW - AHEAD)[1] == []
