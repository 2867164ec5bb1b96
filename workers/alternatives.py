"""The only place where workers ask for another restaurant: the `Alternatives` port, as far as customers have agreed to one."""

from collections.abc import Callable
from datetime import datetime

from adapters.postgres import Pool
from orders.order import Order
from orders.rerouting import Alternative
from outbox import alternatives


class AlternativeTable:
    """`agreed`: customers take another restaurant that costs no more without being asked (`reroute_without_asking`)."""

    def __init__(self, pool: Pool, clock: Callable[[], datetime], *, agreed: bool) -> None:
        self._pool, self._clock, self._agreed = pool, clock, agreed

    async def find(self, order: Order) -> Alternative | None:
        return await alternatives.find(self._pool, order, self._clock()) if self._agreed else None
