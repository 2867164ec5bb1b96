"""The only place for cursors: opaque to callers, and nothing but the key at which their last page ended."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

import msgspec
from litestar.params import QueryParameter

from orders.errors import Invalid
from orders.order import Order

_START: Final = (datetime(9999, 1, 1, tzinfo=UTC), "~")
_JSON: Final = msgspec.json.Decoder(tuple[datetime, str])

Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=100, description="How many at most.")]
Cursor: TypeAlias = Annotated[str | None, QueryParameter(max_length=200, description="`next_cursor` of the page before.")]


def after_order(cursor: str | None) -> tuple[datetime, str]:
    """Where a page of orders begins. Raises `Invalid`."""
    return _START if cursor is None else after_time(cursor)


def after_time(cursor: str) -> tuple[datetime, str]:
    """Where a page begins that is ordered by time and id. Raises `Invalid`."""
    try:
        at, order_id = _JSON.decode(base64.urlsafe_b64decode(cursor.encode("ascii")))
        if at.tzinfo is None or not order_id.isprintable():
            raise _bad()
        return at.astimezone(UTC), order_id
    except (msgspec.DecodeError, binascii.Error, ValueError, OverflowError) as error:
        raise _bad() from error


def after_id(cursor: str | None) -> str:
    """Where a page that is ordered by id begins. Raises `Invalid`."""
    if cursor is not None and not (cursor.isascii() and cursor.isprintable()):
        raise _bad()
    return cursor or ""


def next_order(page: list[Order], limit: int) -> str | None:
    return cursor_at(page[-1].placed_at, page[-1].order_id) if len(page) == limit else None


def cursor_at(at: datetime, thing_id: str) -> str:
    """Where a page ended that is ordered by time and id."""
    return base64.urlsafe_b64encode(msgspec.json.encode((at, thing_id))).decode()


def _bad() -> Invalid:
    return Invalid("cursor", "this is no cursor; give next_cursor of the page before, or none")
