"""What is remembered of each restaurant's host: who is let through, who is spared, and for how long."""

import asyncio

import pytest

from orders.errors import PeerAway
from workers.hosts import Hosts


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hosts(clock: Clock) -> Hosts:
    return Hosts(hands=16, time_scale=1.0, clock=clock)


async def fail(hosts: Hosts, name: str, *, silent: bool = False) -> bool:
    async with hosts.calling(name) as call:
        return call.failed(silent=silent)


async def answer(hosts: Hosts, name: str) -> None:
    async with hosts.calling(name) as call:
        call.answered()


async def spared(hosts: Hosts, name: str) -> bool:
    try:
        await answer(hosts, name)
    except PeerAway:
        return True
    return False


async def test_one_failure_may_be_a_blink_and_the_second_in_a_row_is_not(hosts: Hosts) -> None:
    assert not await fail(hosts, "a")
    await answer(hosts, "a")
    assert not await fail(hosts, "a")
    assert await fail(hosts, "a")
    assert await spared(hosts, "a")
    assert not await spared(hosts, "b")


async def test_silence_is_not_asked_twice(hosts: Hosts) -> None:
    assert await fail(hosts, "a", silent=True)
    assert await spared(hosts, "a")


async def test_after_the_pause_one_message_is_the_probe_and_no_other(hosts: Hosts, clock: Clock) -> None:
    await fail(hosts, "a", silent=True)
    clock.now += 5
    async with hosts.calling("a") as probe:
        assert probe.probe
        assert await spared(hosts, "a")
        probe.answered()
    assert not await spared(hosts, "a")


async def test_each_probe_that_fails_makes_the_pause_longer_up_to_the_shortest_tier(hosts: Hosts, clock: Clock) -> None:
    await fail(hosts, "a", silent=True)
    pauses = []
    for _ in range(6):
        clock.now += await _pause(hosts, clock)
        began = clock.now
        await fail(hosts, "a", silent=True)
        pauses.append(await _pause(hosts, clock))
        assert clock.now == began
    assert pauses[0] <= 10
    assert 30 <= pauses[-1] <= 60


async def _pause(hosts: Hosts, clock: Clock) -> float:
    """How long it is from now until somebody is let through."""
    began = clock.now
    try:
        while True:
            try:
                async with hosts.calling("a"):
                    return clock.now - began
            except PeerAway:
                clock.now += 0.5
    finally:
        clock.now = began


async def test_a_call_that_is_cancelled_leaves_its_place_to_another(hosts: Hosts, clock: Clock) -> None:
    await fail(hosts, "a", silent=True)
    clock.now += 5
    with pytest.raises(asyncio.CancelledError):
        async with hosts.calling("a"):
            raise asyncio.CancelledError
    assert not await spared(hosts, "a")


async def test_while_a_host_hangs_with_a_few_calls_the_next_is_spared_and_another_host_is_not(
    hosts: Hosts, clock: Clock
) -> None:
    enough = asyncio.Event()

    async def hang() -> None:
        async with hosts.calling("a"):
            await enough.wait()

    hanging = [asyncio.create_task(hang()) for _ in range(4)]
    await asyncio.sleep(0)
    clock.now += 1
    assert await spared(hosts, "a")
    assert not await spared(hosts, "b")
    enough.set()
    await asyncio.gather(*hanging)
    assert not await spared(hosts, "a")


async def test_who_waits_for_a_place_gets_the_one_that_an_answer_frees(hosts: Hosts) -> None:
    async with hosts.calling("a"), hosts.calling("a"), hosts.calling("a"):
        async with hosts.calling("a") as last:
            waiting = asyncio.create_task(answer(hosts, "a"))
            await asyncio.sleep(0)
            assert not waiting.done()
            last.answered()
        await asyncio.wait_for(waiting, 1)


async def test_no_more_hosts_are_remembered_than_there_is_room_for(hosts: Hosts) -> None:
    for number in range(10_050):
        await answer(hosts, str(number))
    assert len(hosts) == 10_000
