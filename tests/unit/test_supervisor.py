"""Which processes make up the system, however few or many."""

import pytest

from console.supervisor import FEWEST, GROUPS, WORK, Part, plan
from orders.names import Queue


def _names(parts: list[Part], kind: str) -> list[str]:
    return sorted(name for part in parts if part.argv[0] == kind for name in part.argv[1:])


@pytest.mark.parametrize("processes", [None, *range(FEWEST, 20)])
def test_every_queue_and_every_group_is_followed_once_however_few_processes_there_are(processes: int | None) -> None:
    parts = plan(processes)
    assert _names(parts, "worker") == sorted([*(queue.value for queue in Queue), "letters"])
    assert _names(parts, "stream") == sorted(GROUPS)
    assert [part.argv[0] for part in parts].count("gateway") == 1
    clocks = [part for part in parts if part.argv[0] == "clock" or "--with-clock" in part.argv]
    assert len(clocks) == 1
    assert len(parts) <= (processes or 14)


def test_by_default_every_service_has_a_process_of_its_own() -> None:
    assert len(plan()) == 3 + len(WORK) + len(GROUPS)


def test_copies_run_side_by_side_under_names_of_their_own() -> None:
    parts = plan(6, {"relay": 2, "worker": 3})
    assert len({part.name for part in parts}) == len(parts)
    assert [part.argv for part in parts].count(("relay",)) == 2
    assert len([part for part in parts if part.argv[0] == "worker"]) == 6


def test_whoever_follows_the_facts_yields_to_whoever_serves_an_order() -> None:
    assert {part.argv[0]: part.nice > 0 for part in plan()} == {
        "gateway": False, "relay": False, "clock": False, "worker": False, "stream": True,
    }  # fmt: skip
