"""Groups count exactly what is there, whatever many people and processes do to letters at the same moment."""

import asyncio
import random

import pytest

from adapters.postgres import DatabaseUnavailable
from orders import parking
from orders.errors import LostRace, Refuse
from orders.failures import FailureType
from orders.names import Command
from outbox.letters import actions
from outbox.letters.model import LetterFilter
from outbox.letters.parked import Parked
from outbox.letters.sending import replay_one
from outbox.letters.settling import settle
from outbox.letters.superseding import Superseding
from tests.integration.letters_ground import assert_counted, at, id_of, parked, record
from tests.integration.replays_ground import clean
from tests.integration.workers_ground import Ground, ground
from tests.making import placed

__all__ = ["clean", "ground"]

KINDS = (Command.RESTAURANT_NOTIFY, Command.NOTIFICATION_SMS, Command.PAYMENT_REFUND)
FAILURES = (FailureType.SERVICE_UNAVAILABLE, FailureType.UNKNOWN, FailureType.RESTAURANT_TIMEOUT)


class Walker:
    """Somebody who does things to letters, by chance, and is refused as often as not."""

    def __init__(self, ground: Ground, seed: int, messages: list[Parked]) -> None:
        self._ground, self._pool, self._messages = ground, ground.pool, messages
        self._rng = random.Random(seed)  # noqa: S311  # seeded
        self._minute = 100.0 + seed / 10
        self.refused = 0

    async def walk(self, steps: int) -> None:
        acts = (self._park, self._park, self._copies, self._replay, self._fail_again, self._settle, self._discard, self._sweep,
                self._supersede)  # fmt: skip
        for _ in range(steps):
            self._minute += 1
            try:
                await self._rng.choice(acts)()
            except (Refuse, LostRace, DatabaseUnavailable):  # refused; or lost to somebody else, again and again
                self.refused += 1

    def _one(self) -> Parked:
        return self._rng.choice(self._messages)

    async def _park(self) -> None:
        kind, failure = self._rng.choice(KINDS), self._rng.choice(FAILURES)
        new = [parked(kind, failure=failure, minute=self._minute) for _ in range(self._rng.randint(1, 5))]
        self._messages += new
        await record(self._pool, *new)

    async def _copies(self) -> None:
        await record(self._pool, *(self._one() for _ in range(4)))

    async def _replay(self) -> None:
        await replay_one(self._pool, id_of(self._one()), actor="ann", version=None, now=at(self._minute))

    async def _fail_again(self) -> None:
        was, failure = self._one(), self._rng.choice(FAILURES)
        trail = {parking.LETTER: id_of(was), parking.FIRST_FAILED_AT: at(self._minute).isoformat(),
                 parking.PARKED_AT: at(self._minute).isoformat(), parking.FAILURE: failure.value}  # fmt: skip
        again = Parked(
            queue=was.queue, routing_key=was.routing_key, headers={**was.headers, **trail}, body=was.body,
            message_id=was.message_id, priority=was.priority,
        )  # fmt: skip
        await record(self._pool, again)

    async def _settle(self) -> None:
        await settle(self._pool, id_of(self._one()), outcome="done", now=at(self._minute))

    async def _discard(self) -> None:
        await actions.discard(
            self._pool, id_of(self._one()), reason="enough", actor="bob", version=None, now=at(self._minute)
        )  # fmt: skip

    async def _sweep(self) -> None:
        wanted = LetterFilter(type=self._rng.choice(KINDS), failure_type=self._rng.choice(FAILURES))
        await actions.discard_many(
            self._pool, wanted, cutoff=at(self._minute - 10), reason="enough", actor="eve", now=at(self._minute), dry_run=False
        )

    async def _supersede(self) -> None:
        await Superseding(self._pool).step(at(self._minute))


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_one_walker_leaves_exact_counts_after_each_step(clean: Ground, seed: int) -> None:
    walker = Walker(clean, seed, [parked(order_id=(await placed(clean.pool)).order_id)])
    for _ in range(60):
        await walker.walk(1)
        await assert_counted(clean.pool)


async def test_six_walkers_at_once_leave_exact_counts(clean: Ground) -> None:
    orders = [await placed(clean.pool) for _ in range(20)]
    messages = [parked(kind, order_id=order.order_id) for order in orders for kind in KINDS]
    await record(clean.pool, *messages)
    walkers = [Walker(clean, seed, messages) for seed in range(6)]
    await asyncio.gather(*(walker.walk(60) for walker in walkers))
    await assert_counted(clean.pool)
    letters = await clean.pool.fetchval("SELECT count(*) FROM dead_letters")
    assert letters == len({id_of(message) for message in messages})
