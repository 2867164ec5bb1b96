"""What the demonstration promises of orders that change kitchens: nobody cooks what nobody will fetch."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from console.demo.evidence import Evidence, Kitchen
from console.demo.invariants import restaurants_know


def _evidence(state: str, *kitchens: Kitchen) -> Evidence:
    order = SimpleNamespace(order_id="ord_1", state=state, restaurant_id="rst_2")
    notified = {kitchen.order_id: 1.0 for kitchen in kitchens}
    return cast("Evidence", cast("Any", SimpleNamespace(orders={"ord_1": order}, kitchens=list(kitchens), notified=notified)))


def _kitchen(restaurant: str, *, accepted: bool = False, refused: bool = False, told_off: bool = False) -> Kitchen:
    return Kitchen("ord_1", restaurant, accepted, refused, told_off)


@pytest.mark.parametrize(
    ("state", "kitchens"),
    [
        ("delivered", [_kitchen("rst_2", accepted=True)]),
        ("delivered", [_kitchen("rst_1", refused=True), _kitchen("rst_2", accepted=True)]),
        ("delivered", [_kitchen("rst_1", told_off=True), _kitchen("rst_2", accepted=True)]),
        ("cancelled", [_kitchen("rst_1", told_off=True), _kitchen("rst_2", refused=True)]),
        ("cancelled", [_kitchen("rst_2", accepted=True, told_off=True)]),
        ("cancelled", []),
    ],
)
def test_who_refused_it_or_was_told_knows(state: str, kitchens: list[Kitchen]) -> None:
    assert restaurants_know(_evidence(state, *kitchens)).broken == []


@pytest.mark.parametrize(
    ("state", "kitchens", "problem"),
    [
        ("delivered", [], "never heard of it"),
        ("delivered", [_kitchen("rst_1"), _kitchen("rst_2", accepted=True)], "rst_1 may still cook"),
        ("cancelled", [_kitchen("rst_2", accepted=True)], "still cooks"),
        ("cancelled", [_kitchen("rst_2")], "waits"),
        ("cancelled", [_kitchen("rst_1", accepted=True), _kitchen("rst_2", refused=True)], "rst_1 may still cook"),
    ],
)
def test_who_was_not_told_is_named(state: str, kitchens: list[Kitchen], problem: str) -> None:
    (broken,) = restaurants_know(_evidence(state, *kitchens)).broken
    assert problem in broken
