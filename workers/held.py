"""The only place where a worker touches what streams hold: it makes a fact due, and its stream does the rest."""

from adapters.postgres import Pool
from workers import sql
from workers.store import reaching_the_database


class HeldTable:
    """The `HeldFacts` port on the application's own schema. The audit stream's is woken by its own clock."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def wake(self, group: str, order_id: str, position: int, attempt: int) -> None:
        with reaching_the_database():
            await self._pool.execute(sql.WAKE_HELD, group, order_id, position, attempt)
