"""The only place where a person's step is put to an order: theirs or not found, and the same answer to a repeat."""

from collections.abc import Callable

import msgspec

from gateway import sql
from gateway.context import Gateway, HttpRequest, cause_of, order_id_of
from orders.decide import Wish
from orders.errors import AlreadyDone, NotAllowed, NotFound
from orders.names import Fact
from orders.order import Order
from outbox.personal_keys import key_of
from outbox.transition import load, move


class NotYours(NotFound):
    """The order belongs to somebody else. Never told apart from one that does not exist."""


class DoneBefore(AlreadyDone):
    """The caller was granted this step before; the order has moved on since."""


def theirs(owner: str | None, caller: str) -> None:
    """Raises `NotYours` where the two differ."""
    if owner != caller:
        raise NotYours("there is no such order")


async def step(
    gateway: Gateway, request: HttpRequest, order_id: str, wish: Callable[[Order], Wish], fact: Fact, *, said: str = ""
) -> Order:
    """Grant the wish, or show the order as it is where this caller was granted `fact` before.

    `said`: what the caller typed. It goes into the audit trail under the customer's key, and nowhere else. Raises `NotFound`,
    `NotAllowed`, `RetryLater`.
    """
    cause = cause_of(request)
    try:
        granted = await _with_words(gateway, order_id_of(order_id), wish, said) if said else wish
        return await move(gateway.pool, order_id, granted, cause, gateway.wait, clock=gateway.clock)
    except (NotAllowed, DoneBefore):
        row = await gateway.row(sql.GRANTED, order_id, fact.value, cause.actor.id)
        if not (row and row["exists"]):
            raise
    order, _ = await load(gateway.pool, order_id)
    return order


async def _with_words(gateway: Gateway, order_id: str, wish: Callable[[Order], Wish], said: str) -> Callable[[Order], Wish]:
    """The wish, with what was typed. Nobody makes a key for a customer whose order is not theirs."""
    order, _ = await load(gateway.pool, order_id)
    wish(order)
    key = await key_of(gateway.pool, order.customer_id)
    return lambda now: msgspec.structs.replace(wish(now), private={"said": said}, key=key)
