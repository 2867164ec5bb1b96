"""The breaker: its rules under any sequence of calls and probes, and its driver with a dependency that a test can take away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.breaker import Breaker, DependencyFailing
from adapters.circuit import Blame, Circuit, Policy, State, Ticket
from adapters.payments import CardDeclined, OutcomeUnknown, ProviderRefused
from orders.errors import DependencyDown
from tests.making import eventually

POLICY = Policy(first_pause_s=0.01, longest_pause_s=0.04)


def opened() -> Circuit:
    circuit = Circuit(POLICY)
    assert circuit.failed(admitted(circuit), alive=False, now=0) is Blame.DOWN
    return circuit


def admitted(circuit: Circuit) -> Ticket:
    ticket = circuit.admit()
    assert ticket is not None
    return ticket


def test_one_failure_whose_probe_fails_too_opens_and_is_not_the_calls_own() -> None:
    assert opened().state is State.OPEN


def test_a_failure_whose_probe_is_answered_is_the_calls_own() -> None:
    circuit = Circuit(POLICY)
    assert circuit.failed(admitted(circuit), alive=True, now=0) is Blame.CALL
    assert circuit.state is State.CLOSED


def test_a_dependency_that_answers_its_probe_and_fails_half_of_its_calls_is_in_effect_down() -> None:
    circuit = Circuit(POLICY)
    for now in range(4):
        circuit.answered(admitted(circuit), now)
    blames = [circuit.failed(admitted(circuit), alive=True, now=4) for _ in range(4)]
    assert blames == [Blame.CALL] * 3 + [Blame.FAILING]
    assert circuit.state is State.OPEN


def test_failures_of_long_ago_do_not_count() -> None:
    circuit = Circuit(POLICY)
    for now in range(0, 200, 11):
        assert circuit.failed(admitted(circuit), alive=True, now=now) is Blame.CALL


def test_what_began_before_the_outage_and_fails_after_it_has_met_the_outage() -> None:
    circuit = Circuit(POLICY)
    early, late = admitted(circuit), admitted(circuit)
    circuit.failed(early, alive=False, now=0)
    circuit.probed(alive=True)
    circuit.probed(alive=True)
    assert circuit.state is State.CLOSED
    assert circuit.failed(late, alive=True, now=9) is Blame.DOWN
    assert circuit.state is State.CLOSED


def test_half_open_lets_a_few_through_and_closes_when_they_are_answered() -> None:
    circuit = opened()
    assert circuit.admit() is None
    circuit.probed(alive=True)
    tickets = [admitted(circuit) for _ in range(POLICY.trials)]
    assert circuit.admit() is None
    for ticket in tickets:
        circuit.answered(ticket, 1)
    assert circuit.state is State.CLOSED
    assert circuit.pause_s == POLICY.first_pause_s


def test_a_trial_that_fails_opens_again_for_longer_and_is_not_the_calls_own() -> None:
    circuit = opened()
    circuit.probed(alive=True)
    assert circuit.failed(admitted(circuit), alive=True, now=1) is Blame.FAILING
    assert circuit.state is State.OPEN
    assert circuit.pause_s > POLICY.first_pause_s


def test_where_nobody_calls_a_second_good_probe_closes() -> None:
    circuit = opened()
    circuit.probed(alive=True)
    circuit.probed(alive=True)
    assert circuit.state is State.CLOSED


@given(st.lists(st.tuples(st.sampled_from(["begin", "answer", "fail", "die", "drop", "probe", "dead"]), st.integers(0, 3))))
def test_whatever_happens_an_open_circuit_admits_nothing_and_a_good_dependency_closes_it(steps: list[tuple[str, int]]) -> None:
    circuit, under_way, now = Circuit(POLICY), list[Ticket](), 0.0
    for step, number in steps:
        now += number
        before = circuit.state
        match step:
            case "begin":
                ticket = circuit.admit()
                assert (ticket is None) or before is not State.OPEN
                under_way += [ticket] if ticket else []
            case "probe" | "dead" if circuit.state is not State.CLOSED:
                circuit.probed(alive=step == "probe")
            case "answer" | "fail" | "die" | "drop" if under_way:
                _end(circuit, under_way.pop(number % len(under_way)), step, now)
            case _:
                pass
        assert POLICY.first_pause_s <= circuit.pause_s <= POLICY.longest_pause_s
        assert sum(not circuit.overtaken(each) and each.trial for each in under_way) <= POLICY.trials or (
            circuit.state is State.CLOSED
        )
    for ticket in under_way:
        circuit.answered(ticket, now)
    for _ in range(3):
        circuit.probed(alive=True)
    assert circuit.state is State.CLOSED


def _end(circuit: Circuit, ticket: Ticket, step: str, now: float) -> None:
    overtaken = circuit.overtaken(ticket)
    match step:
        case "answer":
            circuit.answered(ticket, now)
        case "drop":
            circuit.dropped(ticket)
        case "die":
            blame = circuit.failed(ticket, alive=False, now=now)
            assert blame is (circuit.cause if overtaken else Blame.DOWN)
            assert overtaken or circuit.state is State.OPEN
        case _:
            blame = circuit.failed(ticket, alive=True, now=now)
            assert not overtaken or blame is circuit.cause
            assert overtaken or (circuit.state is State.OPEN) is (blame is Blame.FAILING)


class Dependency:
    """Something that can be taken away. `probes` counts; `gate` holds a probe back."""

    def __init__(self) -> None:
        self.there = True
        self.calls = self.probes = self.probing = self.most_probing = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        if not self.there:
            raise OutcomeUnknown("no answer")
        return "done"

    async def refuse(self) -> str:
        raise CardDeclined("generic_decline")

    async def fail_alone(self) -> str:
        raise OutcomeUnknown("for this message")

    async def probe(self) -> None:
        self.probes += 1
        self.probing += 1
        self.most_probing = max(self.probing, self.most_probing)
        try:
            there = self.there
            await self.gate.wait()
            await asyncio.sleep(0)
            if not there:
                raise OutcomeUnknown("no answer")
        finally:
            self.probing -= 1


@asynccontextmanager
async def guarded(dependency: Dependency, probe: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[Breaker]:
    async with Breaker(
        "thing", probe or dependency.probe, points_at=(OutcomeUnknown,), patience_s=0.2, policy=POLICY
    ) as breaker:
        yield breaker


async def closed(breaker: Breaker) -> None:
    assert breaker.state is State.CLOSED


async def test_an_outage_is_told_by_the_first_failure_of_each_call_and_later_ones_are_spared() -> None:
    dependency = Dependency()
    dependency.there = False
    async with guarded(dependency) as breaker:
        results = await asyncio.gather(*(breaker.call(dependency.call) for _ in range(20)), return_exceptions=True)
        assert {type(each) for each in results} == {DependencyDown}
        before = dependency.calls
        with pytest.raises(DependencyDown):
            await breaker.call(dependency.call)
        assert dependency.calls == before
        assert dependency.most_probing == 1
        dependency.there = True
        await eventually(lambda: closed(breaker))
        assert await breaker.call(dependency.call) == "done"


async def test_a_probe_that_began_before_a_call_failed_cannot_acquit_the_dependency() -> None:
    dependency = Dependency()
    async with guarded(dependency) as breaker:
        dependency.gate.clear()
        first = asyncio.create_task(breaker.call(dependency.fail_alone))

        async def asked() -> None:
            assert dependency.probing == 1  # and it was asked while all was well

        await eventually(asked)
        dependency.there = False
        second = asyncio.create_task(breaker.call(dependency.call))
        await asyncio.sleep(0)
        dependency.gate.set()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(each) for each in results] == [OutcomeUnknown, DependencyDown]


async def test_an_answer_that_refuses_asks_no_probe() -> None:
    dependency = Dependency()
    async with guarded(dependency) as breaker:
        for _ in range(20):
            with pytest.raises(CardDeclined):
                await breaker.call(dependency.refuse)
        assert (breaker.state, dependency.probes) == (State.CLOSED, 0)


async def test_messages_that_fail_by_themselves_do_not_hide_behind_a_breaker() -> None:
    dependency = Dependency()
    async with guarded(dependency) as breaker:
        for _ in range(20):
            await breaker.call(dependency.call)
        for _ in range(5):
            with pytest.raises(OutcomeUnknown):
                await breaker.call(dependency.fail_alone)
        assert breaker.state is State.CLOSED


async def test_a_dependency_that_fails_all_calls_and_answers_probes_costs_no_more_attempts_once_that_is_known() -> None:
    dependency = Dependency()
    async with guarded(dependency) as breaker:
        for _ in range(POLICY.least_calls - 1):
            with pytest.raises(OutcomeUnknown):
                await breaker.call(dependency.fail_alone)
        with pytest.raises(DependencyFailing):
            await breaker.call(dependency.fail_alone)

        async def tried_again() -> None:
            (result,) = await asyncio.gather(breaker.call(dependency.fail_alone), return_exceptions=True)
            assert isinstance(result, DependencyFailing)

        await eventually(tried_again)


async def test_a_probe_that_hangs_is_an_outage_and_one_that_is_refused_is_not() -> None:
    dependency = Dependency()

    async def refused() -> None:
        raise ProviderRefused("who are you")

    async with guarded(dependency, refused) as breaker:
        with pytest.raises(OutcomeUnknown):
            await breaker.call(dependency.fail_alone)
    dependency.gate.clear()
    async with guarded(dependency) as breaker:
        with pytest.raises(DependencyDown):
            await breaker.call(dependency.fail_alone)


async def test_while_half_open_the_others_wait_for_the_trial_and_lose_nothing() -> None:
    dependency = Dependency()
    dependency.there = False
    async with guarded(dependency) as breaker:
        moves, half_open = list[State](), asyncio.Event()

        def moved(state: State) -> None:
            moves.append(state)
            half_open.set()

        assert await breaker.check() is State.OPEN
        breaker.listen(moved)
        dependency.there = True
        await asyncio.wait_for(half_open.wait(), 5)
        results = await asyncio.gather(*(breaker.call(dependency.call) for _ in range(20)))
        assert results == ["done"] * 20
        assert moves == [State.HALF_OPEN, State.CLOSED]
