"""The only place that turns what a customer asks for into lines at the menu's prices. Pure."""

from collections.abc import Iterable, Sequence

from gateway.problems import InvalidFields
from gateway.schemas import Item
from orders.errors import Invalid
from orders.menu import MenuRow, line_of, merged
from orders.money import Line


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
    return merged((line_of(on_menu[item.item_id], item.quantity) for item in items), field)
