"""The audit stream stores every event with its bytes, and names what breaks the chain of its order."""

from collections.abc import Iterator

import msgspec
import pytest

from adapters.postgres import PostgresError, connect
from adapters.settings import Settings
from orders import chain
from orders.envelope import OutboxRow
from streams.audit import Audit
from tests.integration.streams_making import (
    audits,
    database,
    following,
    held,
    journey,
    named,
    own_topic,
    positions,
    publish,
    rows,
)
from tests.making import eventually, sealed

_EVENTS = "SELECT * FROM audit.events WHERE chain = $1 ORDER BY position"
_BROKEN = "SELECT position, reason FROM audit.broken_events WHERE chain = $1 ORDER BY position"


@pytest.fixture(scope="module")
def own(flavoured: Settings) -> Iterator[Settings]:
    yield from database(flavoured)


async def _stored(own: Settings, sent: list[OutboxRow], topic: str, position: int = 9) -> Audit:
    """A new audit group that has read all of this."""
    group = Audit(topic=topic, name=named("audit"))

    async def done() -> None:
        assert set((await positions(own, group)).values()) == {position}

    await publish(own, sent)
    async with following(own, group):
        await eventually(done)
    return group


async def test_every_event_is_stored_as_it_was_published_and_its_chain_is_whole(own: Settings) -> None:
    topic, changes = await own_topic(own), journey()
    sent = audits(changes, topic)
    await _stored(own, sent + sent, topic)
    found = await rows(own, _EVENTS, changes[0].order.order_id)
    assert [row["body"] for row in found] == [row.body for row in sent]
    assert chain.first_broken(msgspec.json.decode(row["body"]) for row in found) is None
    assert [row["action"] for row in found][:3] == ["order.placed", "payment.initiated", "payment.confirmed"]
    assert not await rows(own, _BROKEN, changes[0].order.order_id)


async def test_an_edited_event_is_set_aside_and_the_rest_goes_on(own: Settings) -> None:
    topic, changes, well = await own_topic(own), journey(), journey()
    order_id, sent = changes[0].order.order_id, audits(changes, topic)
    sent[3] = msgspec.structs.replace(sent[3], body=sent[3].body.replace(b'"service":"tests"', b'"service":"other"'))
    await _stored(own, [*sent, *audits(well, topic)], topic)
    assert [row["position"] for row in await rows(own, _EVENTS, order_id)] == [1, 2, 3, 5, 6, 7, 8, 9]
    assert await rows(own, _BROKEN, order_id) == [{"position": 4, "reason": "its hash is not the hash of its contents"}]
    (head,) = await rows(own, "SELECT position, broken_at FROM audit.heads WHERE chain = $1", order_id)
    assert head == {"position": 9, "broken_at": 4}
    assert len(await rows(own, _EVENTS, well[0].order.order_id)) == 9


async def test_an_event_that_was_sealed_onto_another_history_is_set_aside(own: Settings) -> None:
    topic, changes = await own_topic(own), journey()
    order_id, sent = changes[0].order.order_id, audits(changes, topic)
    event = msgspec.json.decode(sent[8].body)
    forged = sealed({k: v for k, v in event.items() if k != "hash"}, "ab" * 32)
    sent[8] = msgspec.structs.replace(sent[8], body=chain.canonical(forged))
    await _stored(own, sent, topic)
    (found,) = await rows(own, _BROKEN, order_id)
    assert found["position"] == 9
    assert found["reason"].startswith(f"it links to {'ab' * 32}")


async def test_another_event_at_a_position_that_is_taken_is_set_aside_once(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey()
    order_id, sent = changes[0].order.order_id, audits(changes, topic)
    event = msgspec.json.decode(sent[1].body)
    other = sealed({**{k: v for k, v in event.items() if k != "hash"}, "reason": "other"}, event["prev_hash"])
    again = msgspec.structs.replace(sent[1], body=chain.canonical(other))
    await _stored(own, [*sent[:-1], again, again, *sent, again], topic)

    async def found() -> None:
        expected = [{"position": 2, "reason": "its position is taken by an event with other contents"}]
        assert await rows(own, _BROKEN, order_id) == expected

    await eventually(found)


async def test_a_missing_event_is_a_gap_that_holds_the_rest_of_its_order(own: Settings) -> None:
    topic, changes = await own_topic(own), journey()
    sent = audits(changes, topic)
    group = await _stored(own, sent[:4] + sent[5:], topic, position=4)
    assert [(row["position"], row["kind"]) for row in await held(own, group)] == [(n, "gap") for n in range(6, 10)]


async def test_the_writer_can_add_to_the_ledger_and_nothing_else(own: Settings) -> None:
    topic, changes = await own_topic(own), journey()
    await _stored(own, audits(changes, topic), topic)
    async with connect(own.audit_url, service="tests") as writer:
        for statement in (
            "UPDATE audit.events SET action = 'x'", "DELETE FROM audit.events", "TRUNCATE audit.events",
            "DELETE FROM audit.broken_events", "TRUNCATE audit.broken_events", "DROP TABLE audit.events",
            "SELECT * FROM public.orders",
        ):  # fmt: skip
            with pytest.raises(PostgresError, match=r"denied|owner"):
                await writer.execute(statement)


async def test_triggers_refuse_changes_by_whoever_was_granted_them_and_is_not_the_owner(own: Settings) -> None:
    topic, changes = await own_topic(own), journey()
    await _stored(own, audits(changes, topic), topic)
    (part,) = await rows(own, "SELECT DISTINCT tableoid::regclass::text AS name FROM audit.events")
    await rows(own, "SELECT audit.maintain_events(0)")  # parts that a hypertable has made by itself
    tables = f"audit.events, {part['name']}"
    await rows(own, f"GRANT SELECT, UPDATE, DELETE, TRUNCATE ON {tables} TO rushline_audit_writer")
    async with connect(own.audit_url, service="tests") as writer:
        for table in ("audit.events", part["name"]):
            for statement in ("UPDATE TABLE SET action = 'x'", "DELETE FROM TABLE", "TRUNCATE TABLE"):
                with pytest.raises(PostgresError, match="append-only"):
                    await writer.execute(statement.replace("TABLE", table))
    await rows(own, f"REVOKE UPDATE, DELETE, TRUNCATE ON {tables} FROM rushline_audit_writer")
