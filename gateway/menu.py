"""The only place that turns what a customer asks for into lines at the menu's prices. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.problems import InvalidFields
from gateway.schemas import Item
from orders.errors import Invalid
from orders.money import MAX_LINES, MAX_QUANTITY, Line

MenuRow = Mapping[str, Any]


class ItemUnavailable(InvalidFields):
    """Items that are not on the menu, or not today."""

    slug = "item-unavailable"


class UnknownRestaurant(Invalid):
    """There is no restaurant with this id."""

    slug = "unknown-restaurant"

    def __init__(self) -> None:
        super().__init__("restaurant_id", "there is no such restaurant")


def lines_for(items: Sequence[Item], menu: Iterable[MenuRow], field: str = "items") -> tuple[Line, ...]:
    """A line per item, lines of the same item made one. Raises `ItemUnavailable` and `Invalid` naming `items[i]`."""
    on_menu = {row["item_id"]: row for row in menu}
    wrong: list[tuple[str, str]] = []
    for index, item in enumerate(items):
        row = on_menu.get(item.item_id)
        if row is None:
            wrong.append((f"{field}[{index}].item_id", f"{item.item_id} is not on the menu"))
        elif not row["available"]:
            wrong.append((f"{field}[{index}].item_id", f"{row['name']} is not available"))
    if wrong:
        raise ItemUnavailable(wrong)
    return merged((_line(on_menu[item.item_id], item.quantity) for item in items), field)


def same_by_name(lines: Iterable[Line], menu: Iterable[MenuRow]) -> tuple[Line, ...] | None:
    """The same items at another restaurant, the cheapest of each name, or None where one is missing."""
    by_name: dict[str, MenuRow] = {}
    for row in sorted(menu, key=lambda row: row["unit_price"], reverse=True):
        by_name[row["name"]] = row
    found = [(by_name.get(line.name), line.quantity) for line in lines]
    if any(row is None for row, _ in found):
        return None
    return merged((_line(row, quantity) for row, quantity in found if row is not None), "items")


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


def _line(row: MenuRow, quantity: int) -> Line:
    return Line(row["item_id"], row["name"], quantity, row["unit_price"])
