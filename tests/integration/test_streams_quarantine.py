"""What no stream can read is quarantined with its original bytes, at once, and its partition goes on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from adapters.settings import Settings
from orders.commands import command_id
from orders.envelope import AMQP_PREFIX, KAFKA_PREFIX, attributes
from orders.failures import Category
from orders.ids import new_id
from orders.names import Command
from outbox import alerts
from outbox.letters.actions import discard
from outbox.letters.model import Letter, LetterState, Source
from outbox.letters.sending import replay_one
from streams.audit import Audit
from streams.group import Group
from streams.support import Support
from tests.integration.held_ground import behind, letters_of
from tests.integration.streams_making import (
    audits,
    facts,
    following,
    held,
    journey,
    named,
    own_topic,
    positions,
    publish,
)
from tests.integration.workers_ground import Ground, ground
from tests.making import command_message, eventually

__all__ = ["ground"]


class Raw(NamedTuple):
    """A record as somebody else might write it."""

    key: bytes | None
    headers: dict[str, bytes]
    body: bytes


async def _write(settings: Settings, topic: str, records: list[Raw]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, max_request_size=1_048_588)
    await producer.start()
    try:
        for each in records:
            await producer.send_and_wait(topic, each.body, each.key, headers=list(each.headers.items()))
    finally:
        await producer.stop()


def _raw(headers: dict[str, str], body: bytes, key: str | None) -> Raw:
    return Raw(None if key is None else key.encode(), {name: value.encode() for name, value in headers.items()}, body)


def _poison() -> dict[str, Raw]:
    """One of each kind."""
    order_id, fact = new_id("ord"), facts(journey(), "orders.events")[0]
    headers = attributes(fact, KAFKA_PREFIX)
    charge = command_message(order_id, event_id=command_id(order_id, 1, Command.PAYMENT_CHARGE))
    return {
        "a command": _raw(attributes(charge, AMQP_PREFIX), charge.body, order_id),
        "a schema too new": _raw({**headers, "ce_schemaversion": "99"}, fact.body, fact.aggregate_id),
        "no fact": _raw({**headers, "ce_position": "2"}, b"\x00\xff{", fact.aggregate_id),
        "a megabyte": _raw({**headers, "ce_position": "3"}, b"\x00\x80" * 520_000, fact.aggregate_id),
        "another order's key": _raw({**headers, "ce_position": "4"}, fact.body, order_id),
        "no key": _raw({**headers, "ce_position": "5"}, fact.body, None),
        "nothing at all": Raw(None, {}, b""),
        "no text anywhere": Raw(b"\xff\xfe", {"ce_id": b"\xff\x00", "ce_subject": b"\x80"}, b"\xff"),
    }


@pytest.fixture
async def settings(ground: Ground) -> Settings:
    await ground.pool.execute("DELETE FROM held_facts")
    await ground.pool.execute("UPDATE alerts SET cleared_at = now()")
    return ground.settings


async def _quarantined(ground: Ground, group: Group, number: int) -> list[Letter]:
    found: list[Letter] = []

    async def arrived() -> None:
        found[:] = await letters_of(ground, group)
        assert len(found) == number

    await eventually(arrived, 60)
    return found


@pytest.mark.parametrize("kind", [Support, Audit])
async def test_every_kind_of_poison_is_quarantined_with_its_bytes_and_its_partition_goes_on(
    ground: Ground, settings: Settings, stack: Settings, kind: type[Support] | type[Audit]
) -> None:
    topic, poison, well = await own_topic(settings, partitions=1), _poison(), journey()
    group = kind(topic=topic, name=named(kind.noun))
    owned = settings if kind is Support else msgspec.structs.replace(settings, migrate_dsn=stack.migrate_url)
    good = (facts if kind is Support else audits)(well, topic)
    async with behind(ground, settings), following(settings, group):
        await publish(settings, good[:4])
        await _write(settings, topic, list(poison.values()))
        await publish(settings, good[4:])

        async def goes_on() -> None:
            assert (await positions(owned, group)).get(well[0].order.order_id) == 9

        await eventually(goes_on)
        found = await _quarantined(ground, group, len(poison))
    assert sorted(each.body for each in found) == sorted(each.body for each in poison.values())
    for each in found:
        assert (each.source, each.queue, each.category, each.attempts) == (Source.FACT, "orders.dlq.poison", Category.POISON, 1)
        assert each.quarantined_at is not None
    assert {row["wake_at"] for row in await held(owned, group)} == {None}
    raised = await alerts.open_alerts(ground.pool)
    assert {each.fingerprint for each in found} <= {each.subject for each in raised if each.kind == alerts.POISON}


async def test_poison_that_can_be_read_by_now_takes_effect_when_it_is_replayed(
    ground: Ground, settings: Settings, tmp_path: Path
) -> None:
    topic, changes = await own_topic(settings, partitions=1), journey()
    group, sent, order_id = Support(topic=topic, name=named("support")), facts(changes, topic), changes[0].order.order_id
    newer = msgspec.structs.replace(sent[2], schema_version=99)
    async with behind(ground, settings):
        async with following(settings, group):
            await publish(settings, [*sent[:2], newer, *sent[3:]])
            (letter,) = await _quarantined(ground, group, 1)
            again = await replay_one(ground.pool, letter.letter_id, actor="ann", now=datetime.now(UTC))
            assert again.state is LetterState.REPLAYING

            async def back() -> None:
                (found,) = await letters_of(ground, group)
                assert (found.state, found.generation) == (LetterState.OPEN, 2)

            await eventually(back)
            assert await positions(settings, group) == {order_id: 2}
        # A deploy teaches us the newer schema: as if it were the one we know.
        known = '{"ce_schemaversion": "1"}'
        await ground.pool.execute(
            "UPDATE held_facts SET headers = headers || $1::jsonb WHERE position = 3", msgspec.json.decode(known)
        )
        async with following(settings, group):
            await replay_one(ground.pool, letter.letter_id, actor="ann", now=datetime.now(UTC))

            async def settled() -> None:
                (found,) = await letters_of(ground, group)
                assert (found.state, found.resolution) == (LetterState.RESOLVED, "replayed")

            await eventually(settled)
            assert await positions(settings, group) == {order_id: 9}


async def test_poison_without_a_place_in_line_is_let_go_when_it_is_discarded(ground: Ground, settings: Settings) -> None:
    topic, changes = await own_topic(settings, partitions=1), journey()
    group = Support(topic=topic, name=named("support"))
    async with behind(ground, settings), following(settings, group):
        await _write(settings, topic, [_poison()["nothing at all"]])
        (letter,) = await _quarantined(ground, group, 1)
        now = datetime.now(UTC)
        await discard(ground.pool, letter.letter_id, reason="nobody's", actor="ann", version=None, now=now)

        async def let_go() -> None:
            (row,) = await held(settings, group)
            assert row["skipped_at"] is not None

        await eventually(let_go)
        await publish(settings, facts(changes, topic))

        async def goes_on() -> None:
            assert await positions(settings, group) == {changes[0].order.order_id: 9}

        await eventually(goes_on)
