"""Taking turns: many together or one alone, in the order in which they came."""

import asyncio

import pytest

from tests.making import eventually
from workers.isolation import Turns


class _Inside:
    """Who is inside, and who was, in order."""

    def __init__(self) -> None:
        self.turns, self.inside, self.seen, self.most = Turns(), set[str](), list[str](), 0
        self.leave: dict[str, asyncio.Event] = {}

    def enter(self, name: str) -> "asyncio.Task[None]":
        self.leave[name] = asyncio.Event()
        return asyncio.create_task(self._one(name))

    async def _one(self, name: str) -> None:
        async with self.turns.turn(alone=name.startswith("alone")):
            self.inside.add(name)
            self.seen.append(name)
            assert len(self.inside) == 1 or not any(each.startswith("alone") for each in self.inside)
            self.most = max(self.most, len(self.inside))
            try:
                await asyncio.sleep(0)
                await self.leave[name].wait()
            finally:
                self.inside.discard(name)

    async def are(self, *names: str) -> None:
        async def inside() -> None:
            assert self.inside == set(names)

        await eventually(inside, 2)


async def test_one_alone_waits_for_those_in_hand_and_those_behind_it_wait_for_it() -> None:
    world = _Inside()
    tasks = [world.enter(name) for name in ("a", "b")]
    await world.are("a", "b")
    tasks += [world.enter(name) for name in ("alone 1", "c", "d", "alone 2", "e")]
    world.leave["a"].set()
    await world.are("b")
    world.leave["b"].set()
    await world.are("alone 1")
    world.leave["alone 1"].set()
    await world.are("c", "d")  # before the second one alone, who came after them
    world.leave["c"].set()
    world.leave["d"].set()
    await world.are("alone 2")
    world.leave["alone 2"].set()
    await world.are("e")
    world.leave["e"].set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("moment", ["in line", "inside", "just admitted"])
async def test_one_that_is_cancelled_leaves_the_line_to_the_others(moment: str) -> None:
    world = _Inside()
    first, one, last = world.enter("a"), world.enter("alone 1"), world.enter("b")
    await world.are("a")
    if moment != "in line":
        world.leave["a"].set()
    if moment == "just admitted":
        await asyncio.sleep(0)  # the last one leaves and makes way; the next has not run yet
        assert world.turns._alone
        assert not world.inside
    if moment == "inside":
        await world.are("alone 1")
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    world.leave["a"].set()
    world.leave["b"].set()
    await asyncio.wait_for(asyncio.gather(first, last), 2)
    assert not world.turns._line
    assert world.turns._inside == 0


async def test_eighty_at_once_in_any_order_all_get_their_turn() -> None:
    world = _Inside()
    names = [f"alone {n}" if n % 3 == 0 else f"beside {n}" for n in range(80)]
    tasks = [world.enter(name) for name in names]
    for event in world.leave.values():
        event.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert sorted(world.seen) == sorted(names)
    assert world.most > 1
