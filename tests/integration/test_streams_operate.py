"""An operator moves a group that is stopped: replays are harmless, read models can be built again, orders can go on."""

from collections.abc import Iterator

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.kafka_consumer import TopicsMissing
from adapters.settings import Settings
from console.stream import stream
from orders.errors import Invalid, NotFound
from orders.names import State
from streams import operate
from streams.analytics import Analytics
from streams.group import Group
from streams.notifications import Notifications
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
from tests.making import NOW, eventually

_TOTALS = (
    "SELECT sum(placed)::int AS placed, sum(completed)::int AS completed, sum(captured)::int AS captured FROM analytics_minutes"
)


@pytest.fixture(scope="module")
def own(stack: Settings) -> Iterator[Settings]:
    yield from database(stack)


async def _follow(own: Settings, group: Group, wanted: dict[str, int]) -> None:
    async def check() -> None:
        assert await positions(own, group) == wanted

    async with following(own, group):
        await eventually(check)


async def test_a_replay_from_the_beginning_changes_nothing(own: Settings) -> None:
    topic, journeys = await own_topic(own), [journey() for _ in range(3)]
    group, wanted = Notifications(topic=topic, name=named("notifications")), {c[0].order.order_id: 9 for c in journeys}
    await publish(own, [row for changes in journeys for row in facts(changes, topic)])
    await _follow(own, group, wanted)
    sent = await rows(own, "SELECT event_id FROM outbox ORDER BY id")
    assert len(sent) == 9

    moved = await operate.replay(own, group)
    assert {each.next_offset for each in moved} == {0}
    assert sum(each.was or 0 for each in moved) == 27
    later = journey(State.PLACED)
    await publish(own, facts(later, topic))
    await _follow(own, group, {**wanted, later[0].order.order_id: 1})
    assert await rows(own, "SELECT event_id FROM outbox ORDER BY id") == sent


async def test_a_rebuilt_read_model_is_the_same_again(own: Settings) -> None:
    topic, journeys = await own_topic(own), [journey() for _ in range(4)]
    group, wanted = Analytics(topic=topic, name=named("analytics")), {c[0].order.order_id: 9 for c in journeys}
    await publish(own, [row for changes in journeys for row in facts(changes, topic)])
    await _follow(own, group, wanted)
    before = await rows(own, _TOTALS)
    await operate.replay(own, group, rebuild=True)
    assert (await rows(own, _TOTALS))[0]["placed"] is None
    await _follow(own, group, wanted)
    assert await rows(own, _TOTALS) == before


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey()
    group = Support(topic=topic, name=named("support"))
    await publish(own, facts(changes, topic))
    await _follow(own, group, {changes[0].order.order_id: 9})
    assert await operate.replay(own, group, dry_run=True, rebuild=True) == [operate.Moved(group.name, topic, 0, 9, 0)]
    assert await operate.seek(own, group, topic, 0, 4, dry_run=True) == [operate.Moved(group.name, topic, 0, 9, 4)]
    found = await rows(own, "SELECT next_offset FROM stream_offsets WHERE group_name = $1", group.name)
    assert found == [{"next_offset": 9}]


async def test_a_replay_since_a_time_begins_there(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey()
    group = Support(topic=topic, name=named("support"))
    await publish(own, facts(changes, topic))
    (old,) = await operate.replay(own, group, since=NOW, dry_run=True)
    (new,) = await operate.replay(own, group, since=NOW.replace(year=2100), dry_run=True)
    assert (old.next_offset, new.next_offset) == (0, 9)


async def test_what_is_not_there_cannot_be_sought(own: Settings) -> None:
    topic = await own_topic(own, partitions=2)
    group = Support(topic=topic, name=named("support"))
    for where, field in ((("orders.other", 0, 0), "topic"), ((topic, 2, 0), "partition"), ((topic, 1, 1), "offset")):
        with pytest.raises(Invalid) as caught:
            await operate.seek(own, group, *where)
        assert caught.value.field == field


async def test_an_order_that_waits_for_a_lost_fact_goes_on_when_it_is_skipped(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey()
    order_id, sent = changes[0].order.order_id, facts(changes, topic)
    group = Support(topic=topic, name=named("support"))
    await publish(own, sent[4:])

    async def waits() -> None:
        assert len(await held(own, group)) == 5

    async with following(own, group):
        await eventually(waits)
        with pytest.raises(operate.GroupRunning, match="running with 1 member"):
            await operate.skip(own, group, order_id)
    expected = operate.Skipped(group.name, order_id, 0, 4, 0, 5)
    assert await operate.skip(own, group, order_id, dry_run=True) == expected
    assert await operate.skip(own, group, order_id) == expected
    await _follow(own, group, {order_id: 9})
    with pytest.raises(NotFound):
        await operate.skip(own, group, order_id)


async def test_a_poisonous_fact_that_is_skipped_stays_as_evidence(own: Settings) -> None:
    topic, changes = await own_topic(own, partitions=1), journey()
    order_id, sent = changes[0].order.order_id, facts(changes, topic)
    group = Support(topic=topic, name=named("support"))
    sent[2] = msgspec.structs.replace(sent[2], body=b"?")
    await publish(own, sent)
    await _follow(own, group, {order_id: 2})
    assert await operate.skip(own, group, order_id) == operate.Skipped(group.name, order_id, 2, 3, 1, 6)
    await _follow(own, group, {order_id: 9})
    (row,) = await held(own, group)
    assert (row["position"], row["body"]) == (3, b"?")
    assert row["skipped_at"] is not None


async def test_what_goes_out_into_the_world_is_never_done_again(own: Settings) -> None:
    group = Notifications(topic=await own_topic(own), name=named("notifications"))
    with pytest.raises(operate.CannotRebuild):
        await operate.replay(own, group, rebuild=True)


async def test_a_topic_that_is_not_there_is_named(own: Settings) -> None:
    with pytest.raises(TopicsMissing, match=r"no\.such\.topic"):
        await operate.replay(own, Support(topic="no.such.topic", name=named("support")))


def _rushline(own: Settings, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    for name in ("postgres_dsn", "audit_dsn", "kafka_bootstrap"):
        monkeypatch.setenv(f"RUSHLINE_{name.upper()}", getattr(own, name))
    return CliRunner().invoke(stream, words)


def test_the_command_line_shows_where_a_group_would_go(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _rushline(own, monkeypatch, "replay", "audit", "--from-beginning", "--dry-run", "--json")
    assert shown.exit_code == 0, shown.output
    rows_shown = msgspec.json.decode(shown.stdout)
    assert len(rows_shown) == 32
    assert rows_shown[0] == {"group": "audit", "topic": "audit.events", "partition": 0, "was": None, "next_offset": 0}


def test_the_command_line_moves_a_group(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    done = _rushline(own, monkeypatch, "seek", "support", "orders.events", "3", "0", "--json")
    assert done.exit_code == 0, done.output
    again = _rushline(own, monkeypatch, "seek", "support", "orders.events", "3", "0", "--json")
    assert msgspec.json.decode(again.stdout)[0]["was"] == 0


def test_the_command_line_names_what_it_refuses(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, said in (
        (("replay", "support"), "Give either --from-beginning or --since"),
        (("replay", "support", "--since", "yesterday"), "is no time"),
        (("replay", "nobody", "--from-beginning"), "nobody"),
        (("replay", "fraud", "--from-beginning", "--rebuild"), "no read model"),
        (("replay", "support", "--since", "2025-01-01", "--rebuild"), "built from the beginning"),
        (("seek", "support", "audit.events", "0", "0"), "reads orders.events"),
        (("seek", "support", "orders.events", "99", "0"), "the partitions 0 to 31"),
        (("skip", "support", "ord_nobody"), "holds nothing of ord_nobody"),
    ):
        refused = _rushline(own, monkeypatch, *words)
        assert refused.exit_code == 2, refused.output
        assert said in refused.output
