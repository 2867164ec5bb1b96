"""The only place that knows below which id a lane of the outbox is empty for ever.

A bare `id >` cursor loses rows, because ids are not given in commit order. A plain `ORDER BY id LIMIT` walks again over
every removed row that an old snapshot (a backup, a long report) still keeps. So: note the last id given out, then take
the next transaction number. Every row up to that id belongs to an earlier transaction (migrations/0001_orders.sql gives
the transaction its number first). Once all of these have ended, what a later read does not see up to that id can never
appear.

A read-only snapshot has no transaction number and does not delay this; a long writing transaction does.
"""


class LowWater:
    """Feed it each horizon read, then the first id of a read made after it; `mark` only ever grows."""

    def __init__(self) -> None:
        self.mark = 0
        self._candidate: tuple[int, int] | None = None
        self._safe = 0

    def observe(self, last_id: int, oldest_running: int, next_transaction: int) -> None:
        """One read of the horizon: last id given out, oldest transaction running before that, next one after."""
        if self._candidate is not None:
            candidate_id, before = self._candidate
            if oldest_running < before:
                return
            self._safe = max(self._safe, candidate_id)
        self._candidate = (last_id, next_transaction)

    def settle(self, first_remaining: int | None) -> None:
        """One read above the mark, made after the last `observe`: its first id, or None where nothing remains."""
        reached = self._safe if first_remaining is None else min(self._safe, first_remaining - 1)
        self.mark = max(self.mark, reached)
