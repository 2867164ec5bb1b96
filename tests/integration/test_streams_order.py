"""Facts take effect once and in order, and what cannot take effect holds back nobody else."""

import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from adapters.postgres import Connection
from adapters.settings import Settings
from orders.names import Fact, State
from streams.analytics import Analytics
from streams.group import Group, Incoming, fact_of
from streams.support import Support
from tests.integration.streams_making import (
    database,
    facts,
    following,
    held,
    journey,
    named,
    own_topic,
    positions,
    publish,
    rows,
)
from tests.making import eventually


@pytest.fixture(scope="module")
def own(stack: Settings) -> Iterator[Settings]:
    yield from database(stack)


class Fussy(Support):
    """A group with a bug: it cannot take a certain restaurant's acceptance."""

    victim = ""

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        await super().apply(db, taken)
        for fact in map(fact_of, taken):
            if fact.order_id == self.victim and fact.type is Fact.RESTAURANT_ACCEPTED:
                await db.execute("SELECT 1 / 0")


async def _reached(own: Settings, group: Group, wanted: dict[str, int]) -> None:
    async def check() -> None:
        assert await positions(own, group) == wanted

    await eventually(check)


async def _placed(own: Settings, city: str) -> int:
    (row,) = await rows(own, "SELECT coalesce(sum(placed), 0)::int AS n FROM analytics_minutes WHERE city = $1", city)
    count: int = row["n"]
    return count


async def test_facts_that_come_twice_take_effect_once(own: Settings) -> None:
    topic = await own_topic(own)
    group, journeys = Analytics(topic=topic, name=named("analytics")), [journey() for _ in range(5)]
    sent = [row for changes in journeys for row in facts(changes, topic)]
    before = await _placed(own, "Utrecht")
    await publish(own, sent + sent)
    async with following(own, group, batch_rows=7):
        await publish(own, sent)
        await _reached(own, group, {changes[0].order.order_id: 9 for changes in journeys})
    assert await _placed(own, "Utrecht") - before == 5
    assert not await held(own, group)


async def test_facts_that_come_out_of_order_take_effect_in_order(own: Settings) -> None:
    topic = await own_topic(own)
    group, journeys = Support(topic=topic, name=named("support")), [journey() for _ in range(5)]
    sent = [row for changes in journeys for row in facts(changes, topic)]
    secrets.SystemRandom().shuffle(sent)
    async with following(own, group, batch_rows=3):
        await publish(own, sent)
        await _reached(own, group, {changes[0].order.order_id: 9 for changes in journeys})
    assert not await held(own, group)
    found = await rows(own, "SELECT state, last_fact FROM support_orders WHERE order_id = $1", journeys[0][0].order.order_id)
    assert found == [{"state": "delivered", "last_fact": "order.completed"}]


async def test_an_order_whose_beginning_is_missing_waits_for_it(own: Settings) -> None:
    topic, changes = await own_topic(own), journey()
    group, sent = Support(topic=topic, name=named("support")), facts(changes, topic)
    await publish(own, sent[2:])

    async def all_are_held() -> None:
        found = await held(own, group)
        assert [(row["position"], row["kind"]) for row in found] == [(n, "gap") for n in range(3, 10)]
        assert {row["reason"] for row in found} == {"waits for position 1"}

    async with following(own, group):
        await eventually(all_are_held)
        await publish(own, sent[:2])
        await _reached(own, group, {changes[0].order.order_id: 9})
    assert not await held(own, group)


async def test_a_poisonous_body_is_set_aside_with_its_order_and_the_partition_goes_on(own: Settings) -> None:
    topic = await own_topic(own, partitions=1)
    group, ill, well = Support(topic=topic, name=named("support")), journey(), journey()
    sent = facts(ill, topic)
    sent[3] = msgspec.structs.replace(sent[3], body=b"\x00\xff not json", headers={**sent[3].headers, "x": "nul\x00"})
    async with following(own, group):
        await publish(own, [*sent, *facts(well, topic)])
        await _reached(own, group, {ill[0].order.order_id: 3, well[0].order.order_id: 9})
    found = await held(own, group)
    assert [(row["position"], row["kind"]) for row in found] == [(4, "invalid-message"), *((n, "gap") for n in range(5, 10))]
    assert found[0]["body"] == b"\x00\xff not json"
    assert found[0]["reason"].startswith("not a fact")


async def test_a_message_that_names_no_order_is_set_aside_alone(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey()
    group, sent = Support(topic=topic, name=named("support")), facts(changes, topic)
    nobody = msgspec.structs.replace(sent[0], aggregate_id="\x00" * 300, position=2**40)
    async with following(own, group):
        await publish(own, [nobody, *sent])
        await _reached(own, group, {changes[0].order.order_id: 9})
    (row,) = await held(own, group)
    assert (row["position"], row["kind"]) == (None, "invalid-message")


async def test_a_fact_that_fails_is_held_with_its_order_and_its_neighbours_take_effect(own: Settings) -> None:
    topic = await own_topic(own, partitions=1)
    group, journeys = Fussy(topic=topic, name=named("support")), [journey() for _ in range(4)]
    group.victim = journeys[1][0].order.order_id
    expected = {changes[0].order.order_id: 9 for changes in journeys} | {group.victim: 4}
    async with following(own, group):
        await publish(own, [row for changes in journeys for row in facts(changes, topic)])
        await _reached(own, group, expected)
        found = await held(own, group)
        assert [(row["position"], row["kind"]) for row in found] == [(5, "failed"), *((n, "gap") for n in range(6, 10))]
        assert "division by zero" in found[0]["reason"]

        group.victim = ""  # the bug is mended, and somebody wakes what was held
        await rows(own, "UPDATE held_facts SET wake_at = now() WHERE group_name = $1 AND position = 5", group.name)
        await _reached(own, group, dict.fromkeys(expected, 9))
    assert not await held(own, group)


async def test_a_woken_fact_that_fails_again_stays_held_and_counts_its_attempts(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey(State.RESTAURANT_ACCEPTED)
    group = Fussy(topic=topic, name=named("support"))
    group.victim = changes[0].order.order_id

    async def tried(attempts: int) -> None:
        found = await held(own, group)
        assert [(row["position"], row["attempts"]) for row in found] == [(5, attempts)]
        assert found[0]["wake_at"] > datetime.now(UTC)  # by itself, where its wake-up is lost

    async with following(own, group):
        await publish(own, facts(changes, topic))
        await eventually(lambda: tried(1))
        await rows(own, "UPDATE held_facts SET wake_at = now() WHERE group_name = $1", group.name)
        await eventually(lambda: tried(2))
    assert (await positions(own, group))[group.victim] == 4
