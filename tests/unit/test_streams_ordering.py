"""Position n+1 takes effect after n, once, whatever the brokers do to the order of arrival."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from adapters.kafka_consumer import Partition
from streams.group import Incoming, Kind, Problem
from streams.ordering import plan

_HERE = Partition("orders.events", 0)


def _item(offset: int, position: int | None, order_id: str = "a", problem: Problem | None = None) -> Incoming:
    return Incoming(
        partition=_HERE,
        offset=offset,
        order_id=order_id,
        position=position,
        headers={},
        body=b"",
        fact=position,
        problem=problem,
    )


_BAD = Problem(Kind.UNREADABLE, "not a fact")


def test_facts_in_order_take_effect_at_once() -> None:
    done = plan([_item(0, 1), _item(1, 2), _item(2, 1, "b")], {})
    assert [(i.order_id, i.position) for i in done.apply] == [("a", 1), ("a", 2), ("b", 1)]
    assert done.positions == {"a": 2, "b": 1}
    assert not done.hold
    assert not done.repeated


def test_a_fact_that_is_too_early_is_held_and_says_what_it_waits_for() -> None:
    done = plan([_item(0, 3)], {"a": 1})
    assert [item.problem for item in done.hold] == [Problem(Kind.GAP, "waits for position 2")]
    assert not done.positions


def test_the_missing_fact_releases_what_waits_behind_it() -> None:
    waiting = [msgspec.structs.replace(_item(offset, position), held=True) for offset, position in ((5, 3), (6, 4), (7, 6))]
    done = plan([_item(9, 2)], {"a": 1}, waiting)
    assert [item.position for item in done.apply] == [2, 3, 4]
    assert [item.position for item in done.freed] == [3, 4]
    assert not done.hold
    assert done.positions == {"a": 4}


def test_an_unreadable_fact_holds_back_its_own_order_only() -> None:
    done = plan([_item(0, 1, problem=_BAD), _item(1, 2), _item(2, 1, "b")], {})
    assert [item.order_id for item in done.apply] == ["b"]
    assert [item.problem.kind for item in done.hold if item.problem] == [Kind.UNREADABLE, Kind.GAP]


def test_a_readable_copy_takes_the_place_of_an_unreadable_one() -> None:
    stuck = msgspec.structs.replace(_item(0, 1, problem=_BAD), held=True)
    done = plan([_item(5, 1)], {}, [stuck])
    assert [item.offset for item in done.apply] == [5]
    assert [item.offset for item in done.freed] == [0]


def test_what_has_no_position_takes_effect_as_it_comes() -> None:
    done = plan([_item(0, None), _item(1, None, problem=_BAD)], {})
    assert [item.offset for item in done.apply] == [0]
    assert [item.offset for item in done.hold] == [1]
    assert not done.positions


def test_a_held_fact_that_fails_again_is_held_again_only_where_it_was_woken() -> None:
    asleep = msgspec.structs.replace(_item(0, 1, problem=_BAD), held=True)
    awake = msgspec.structs.replace(asleep, woken=True)
    assert not plan([], {}, [asleep]).hold
    assert plan([], {}, [awake]).hold == [awake]


def _held(offset: int, position: int | None, **values: Any) -> Incoming:
    return msgspec.structs.replace(_item(offset, position), held=True, **values)


def test_a_discarded_fact_is_passed_at_its_turn_and_releases_what_waits_behind_it() -> None:
    gone = _held(1, 2, problem=_BAD, woken=True, discarded=True)
    done = plan([], {"a": 1}, [gone, _held(2, 3), _held(3, 4)])
    assert done.passed == [gone]
    assert [item.position for item in done.apply] == [3, 4]
    assert done.positions == {"a": 4}
    assert not done.hold
    assert not done.rest


def test_a_discarded_fact_rests_until_its_turn_has_come() -> None:
    gone = _held(1, 3, problem=_BAD, woken=True, discarded=True)
    early = plan([], {"a": 1}, [gone])
    assert (early.rest, early.passed, early.positions) == ([gone], [], {})
    asleep = msgspec.structs.replace(gone, woken=False)
    done = plan([_item(7, 2), _item(8, 4)], {"a": 1}, [asleep])
    assert [item.position for item in done.apply] == [2, 4]
    assert (done.passed, done.positions) == ([asleep], {"a": 4})


def test_a_discarded_fact_is_not_brought_back_by_a_copy_of_it() -> None:
    gone = _held(1, 2, problem=_BAD, discarded=True)
    done = plan([_item(9, 2)], {"a": 1}, [gone])
    assert (done.apply, done.passed) == ([], [gone])
    assert [item.offset for item in done.repeated] == [9]


def test_a_discarded_fact_without_a_place_in_line_is_passed_at_once() -> None:
    gone = _held(1, None, problem=_BAD, woken=True, discarded=True)
    done = plan([], {"a": 1}, [gone])
    assert (done.passed, done.positions) == ([gone], {})


def test_a_discarded_fact_whose_position_has_passed_stays_as_evidence() -> None:
    gone = _held(1, 2, problem=_BAD, woken=True, discarded=True)
    done = plan([], {"a": 5}, [gone])
    assert (done.passed, done.freed, done.positions) == ([gone], [], {})


@given(st.lists(st.integers(1, 8), max_size=40), st.lists(st.integers(1, 10), min_size=1, max_size=6))
def test_any_arrival_in_any_batches_takes_effect_once_and_in_order(arrivals: list[int], sizes: list[int]) -> None:
    positions: dict[str, int] = {}
    table: dict[int, Incoming] = {}
    effects: list[int] = []
    items = [_item(offset, position) for offset, position in enumerate(arrivals)]
    while items:
        size = sizes[len(items) % len(sizes)]
        batch, items = items[:size], items[size:]
        done = plan(batch, positions, list(table.values()))
        effects += [item.fact for item in done.apply]
        positions |= done.positions
        for item in done.freed:
            del table[item.offset]
        table |= {item.offset: msgspec.structs.replace(item, held=True, problem=None) for item in done.hold}
    whole = next(n for n in range(1, 10) if n not in arrivals) - 1
    assert effects == list(range(1, whole + 1))
    assert {item.position for item in table.values()} == {p for p in arrivals if p > whole}
