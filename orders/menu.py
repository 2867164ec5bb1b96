"""The only place that makes lines of an order from rows of a menu. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from orders.errors import Invalid
from orders.money import MAX_LINES, MAX_QUANTITY, Line

MenuRow = Mapping[str, Any]


def line_of(row: MenuRow, quantity: int) -> Line:
    """So many of this item, at the menu's price."""
    return Line(row["item_id"], row["name"], quantity, row["unit_price"])


def same_by_name(lines: Iterable[Line], menu: Iterable[MenuRow]) -> tuple[Line, ...] | None:
    """The same items at another restaurant, the cheapest of each name, or None where one is missing."""
    by_name: dict[str, MenuRow] = {}
    for row in sorted(menu, key=lambda row: row["unit_price"], reverse=True):
        by_name[row["name"]] = row
    found = [(by_name.get(line.name), line.quantity) for line in lines]
    if any(row is None for row, _ in found):
        return None
    return merged((line_of(row, quantity) for row, quantity in found if row is not None), "items")


def merged(lines: Iterable[Line], field: str) -> tuple[Line, ...]:
    """Lines of the same item made one. Raises `Invalid` above the bounds of an order."""
    by_id: dict[str, Line] = {}
    for index, line in enumerate(lines):
        before = by_id.get(line.item_id)
        quantity = line.quantity + (before.quantity if before else 0)
        if quantity > MAX_QUANTITY:
            raise Invalid(
                f"{field}[{index}].quantity", f"{quantity} of {line.name} in all; at most {MAX_QUANTITY} are possible"
            )
        by_id[line.item_id] = Line(line.item_id, line.name, quantity, line.unit_price)
    if len(by_id) > MAX_LINES:
        raise Invalid(field, f"an order has at most {MAX_LINES} lines, this one would have {len(by_id)}")
    return tuple(by_id.values())
