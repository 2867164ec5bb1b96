"""The audit chain of one order: what is altered shows, and where; the canonical form against an independent oracle."""

import ast
import hashlib
import json
import sys
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from orders import chain
from tests.making import REPOSITORY, sealed

EVENTS = 5
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner, max_size=4),
)


def _record() -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    head = chain.GENESIS
    for position in range(1, EVENTS + 1):
        event = {
            "event_id": f"aud_{position}",
            "position": position,
            "actor": {"type": "system", "id": "x"},
            "details": {"n": 1},
        }
        events.append(sealed(event, head))
        head = events[-1]["hash"]
    return events


@given(st.dictionaries(st.text(st.characters(max_codepoint=127)), VALUES, max_size=6))
def test_the_canonical_form_is_that_of_rfc_8785(event: dict[str, Any]) -> None:
    assert chain.canonical(event) == rfc8785.dumps(event)


@given(st.dictionaries(st.text(st.characters(max_codepoint=127)), VALUES, max_size=6))
def test_the_canonical_form_reads_back_as_the_same_event(event: dict[str, Any]) -> None:
    assert json.loads(chain.canonical(event)) == event


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        1.0,
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        {"é": 1},
        {1: 1},
        b"bytes",
        {1, 2},
        object(),
        "\ud800",
        ["ok", 0.5],
    ],
)
def test_what_has_no_one_spelling_is_refused(value: object) -> None:
    with pytest.raises(chain.NotCanonicalError):
        chain.canonical({"value": value})


def test_an_event_may_have_sixty_kibibytes() -> None:
    room = chain.MAX_EVENT_BYTES - len(b'{"v":""}')
    assert len(chain.canonical({"v": "x" * room})) == chain.MAX_EVENT_BYTES
    with pytest.raises(chain.NotCanonicalError, match="61440"):
        chain.canonical({"v": "x" * (room + 1)})


def test_a_hash_covers_the_domain_and_every_field_but_itself() -> None:
    event = _record()[0]
    without = {name: value for name, value in event.items() if name != "hash"}
    assert event["hash"] == hashlib.sha256(b"rushline/audit-event/v1\x00" + rfc8785.dumps(without)).hexdigest()
    assert event["prev_hash"] == chain.GENESIS


def test_a_whole_record_has_no_break() -> None:
    assert chain.first_broken(_record()) is None
    assert chain.first_broken([]) is None


@pytest.mark.parametrize("position", range(1, EVENTS + 1))
@pytest.mark.parametrize(
    "altered",
    [
        {"event_id": "aud_other"}, {"actor": {"type": "support", "id": "x"}}, {"details": {"n": 2}}, {"details": {}},
        {"details": {"n": 1.5}}, {"details": {"n": "\ud800"}}, {"details": {"n": True}}, {"position": 9}, {"position": True},
        {"position": "1"}, {"hash": "0" * 64}, {"hash": None}, {"prev_hash": "0" * 64}, {"new": "field"},
    ],
    ids=repr,
)  # fmt: skip
def test_an_altered_field_shows_at_its_position(position: int, altered: dict[str, Any]) -> None:
    record = _record()
    record[position - 1] = {**record[position - 1], **altered}
    assert chain.first_broken(record) == position


@pytest.mark.parametrize("position", range(1, EVENTS + 1))
@pytest.mark.parametrize("field", ["event_id", "position", "details", "hash", "prev_hash"])
def test_a_missing_field_shows_at_its_position(position: int, field: str) -> None:
    record = _record()
    del record[position - 1][field]
    assert chain.first_broken(record) == position


@pytest.mark.parametrize("position", range(1, EVENTS))
def test_a_removed_swapped_or_doubled_event_shows_at_its_position(position: int) -> None:
    record = _record()
    at = position - 1
    assert chain.first_broken(record[:at] + record[at + 1 :]) == position
    assert chain.first_broken([*record[:at], record[position], record[at], *record[position + 1 :]]) == position
    assert chain.first_broken([*record[:position], record[at], *record[position:]]) == position + 1


@pytest.mark.parametrize("position", range(1, EVENTS))
def test_an_event_that_was_sealed_again_shows_at_the_next(position: int) -> None:
    record = _record()
    event = record[position - 1]
    record[position - 1] = sealed({**event, "details": {"n": 2}}, event["prev_hash"])
    assert chain.first_broken(record) == position + 1


def test_an_auditor_needs_the_standard_library_only() -> None:
    tree = ast.parse((REPOSITORY / "orders" / "chain.py").read_text())
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
