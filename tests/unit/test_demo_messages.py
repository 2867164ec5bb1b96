"""The demonstration accounts for each message that entered, and fails where an operator could not do what there was to do."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from console.demo.entries import in_words, tally
from console.demo.evidence import NOWHERE, Deeds, Entry, Evidence, Letter
from console.demo.invariants import every_message_accounted_for, operators_came_through


def _entry(kind: str, state: str | None = None, *, done: bool = False, pending: bool = False) -> Entry:
    return Entry(message_id="cmd_1", type=kind, state=state, done=done, pending=pending)


def _evidence(*entries: Entry, letters: list[Letter] | None = None, deeds: Deeds | None = None) -> Evidence:
    found = SimpleNamespace(
        entries=list(entries), letters=letters or [], queues={"payments": 0}, expected_in_queues={}, deeds=deeds or Deeds()
    )
    return cast("Evidence", cast("Any", found))


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        (_entry("payment.charge", done=True), "done"),
        (_entry("payment.refund", "resolved"), "done"),
        (_entry("payment.refund", "open"), "parked"),
        (_entry("notification.sms", "replaying"), "parked"),
        (_entry("notification.sms", "discarded"), "discarded"),
        (_entry("notification.push"), "done, and not remembered"),
        (_entry("restaurant.notify"), "superseded or compensated"),
        (_entry("restaurant.notify", pending=True), NOWHERE),
        (_entry("payment.refund"), NOWHERE),
        (_entry("notification.sms"), NOWHERE),
    ],
)
def test_a_message_that_entered_is_in_one_place(entry: Entry, place: str) -> None:
    assert entry.place == place


def test_a_message_that_is_nowhere_breaks_the_promise_and_is_named() -> None:
    kept = every_message_accounted_for(_evidence(_entry("payment.charge", done=True), _entry("order.cancel")))
    assert (kept.ok, kept.count) == (True, 3)
    lost = every_message_accounted_for(_evidence(_entry("notification.sms"), _entry("payment.charge", done=True)))
    assert lost.broken == ["cmd_1 (notification.sms) entered, and is nowhere"]


def test_a_message_that_is_parked_and_done_is_in_two_places() -> None:
    twice = Letter("let_1", "command", "cmd_1", "payments", "unknown", "x", "open", None, None, done=True)
    (broken,) = every_message_accounted_for(_evidence(_entry("payment.charge", "open", done=True), letters=[twice])).broken
    assert "parked, and done as well" in broken


def test_entries_are_counted_by_type_and_place() -> None:
    counted = tally([_entry("order.cancel", done=True), _entry("order.cancel"), _entry("order.cancel", done=True)])
    assert counted == {"order.cancel": {"entered": 3, "done": 2, "superseded or compensated": 1}}
    assert in_words(counted["order.cancel"]) == "2 done, 1 superseded or compensated"


def test_what_an_operator_could_not_do_breaks_a_promise() -> None:
    assert operators_came_through(_evidence(deeds=Deeds(shifts=3))).ok
    failed = operators_came_through(_evidence(deeds=Deeds(shifts=3, gave_up=["poison: no letter came"])))
    assert (failed.ok, failed.count, failed.broken) == (False, 3, ["poison: no letter came"])
