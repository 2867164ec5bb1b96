"""What a failed message carries with it, and what is made of that."""

from datetime import timedelta
from typing import Any

import pytest
from pamqp.encode import field_table

from adapters.payments import OutcomeUnknown
from adapters.rabbitmq_consumer import Delivery
from orders.parking import ATTEMPTS, CONSUMER, FAILURE, FIRST_FAILED_AT, LAST_ERROR, LAST_FAILED_AT, LAST_SLUG, LETTER, STACK
from tests.making import NOW
from tests.unit.test_workers_reading import nobody
from workers import trail
from workers.ports import NoDriverAvailable

FRAME = 131_072


def _delivery(headers: dict[str, Any]) -> Delivery:
    return Delivery(
        queue="payments", routing_key="payment.charge", body=b"{}", headers=headers, priority=2, message_id="m", redelivered=False,
        message=nobody(),
    )  # fmt: skip


def _raised() -> Exception:
    try:
        return ValueError(int("x" * 4_000))
    except ValueError as caught:
        return caught


def test_the_trail_names_the_failure_and_keeps_what_was_sent() -> None:
    sent = {"cloudEvents_id": "cmd_1", LETTER: "let_1", ATTEMPTS: "1", FIRST_FAILED_AT: NOW.isoformat()}
    later = NOW + timedelta(minutes=1)
    headers = trail.failed(_delivery(sent), OutcomeUnknown("lost"), later, spends=True)
    assert headers == {
        **sent, ATTEMPTS: "2", LAST_FAILED_AT: later.isoformat(), LAST_ERROR: "OutcomeUnknown", LAST_SLUG: "outcome-unknown",
        "rushline-last-error-message": "lost", FAILURE: "payment_timeout", CONSUMER: "payments",
    }  # fmt: skip


def test_a_free_wait_leaves_the_count_alone() -> None:
    headers = trail.failed(_delivery({ATTEMPTS: "2"}), OutcomeUnknown(), NOW, spends=False)
    assert headers[ATTEMPTS] == "2"


def test_only_a_failure_that_nobody_has_named_leaves_its_stack_and_only_the_last_one() -> None:
    unknown = trail.failed(_delivery({}), _raised(), NOW, spends=True)
    assert (unknown[LAST_ERROR], unknown[LAST_SLUG], unknown[FAILURE]) == ("ValueError", "unknown", "unknown")
    assert len(unknown[STACK]) <= 4_000
    assert STACK not in trail.failed(_delivery(unknown), OutcomeUnknown(), NOW, spends=True)


@pytest.mark.parametrize("value", ["x" * 100_000, {"deep": ["y" * 100_000]}, b"\xff" * 30_000])
def test_a_strangers_headers_never_leave_too_little_room_for_ours(value: Any) -> None:
    sent = {"cloudEvents_id": "cmd_1", "strange": value, "short": "kept"}
    headers = trail.failed(_delivery(sent), ValueError("x"), NOW, spends=True)
    assert len(field_table(headers)) < FRAME - 20_000
    assert (headers["cloudEvents_id"], headers["short"], headers[CONSUMER]) == ("cmd_1", "kept", "payments")


def test_ten_thousand_headers_of_a_stranger_are_cut_as_well() -> None:
    headers = trail.failed(_delivery({f"h{n}": "v" for n in range(10_000)}), ValueError("x"), NOW, spends=True)
    assert len(field_table(headers)) < FRAME - 20_000


def test_the_rounds_of_a_search_are_no_failures_of_what_comes_after_it() -> None:
    searched = trail.failed(_delivery({ATTEMPTS: "11"}), NoDriverAvailable(), NOW, spends=True)
    assert trail.attempts(searched) == 12
    assert trail.attempt_number(searched, NoDriverAvailable()) == 13
    assert trail.attempt_number(searched, OutcomeUnknown()) == 1


@pytest.mark.parametrize(
    ("first", "waited_s"),
    [
        (NOW.isoformat(), 600),
        ("yesterday", 0),
        ("2025-01-01T00:00:00", 0),
        (None, 0),
        ((NOW + timedelta(days=1)).isoformat(), 0),
    ],
)
def test_how_long_it_has_waited_is_business_time_since_its_first_failure(first: str | None, waited_s: float) -> None:
    headers = {} if first is None else {FIRST_FAILED_AT: first}
    assert trail.waited_s(headers, NOW + timedelta(seconds=10), 60.0) == waited_s
