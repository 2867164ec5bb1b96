"""The ledger is verified against what was signed: each way of tampering with it directly, as its owner, is found and named."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from adapters.settings import Settings
from audit.verification.findings import Kind
from audit.verification.verifying import Wanted
from orders import chain
from orders.errors import Invalid
from tests.integration.verify_ground import ORDERS, ROUNDS, as_owner, copied, cut, first, kinds, signed_ledger, verified

EVENTS = ROUNDS * ORDERS * 10  # nine steps of each order, and one look at it


class Gone(NamedTuple):
    """An event that has left the ledger."""

    leaf_index: int
    body: bytes


@pytest.fixture(scope="module")
def own(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from signed_ledger(stack, Path(tmp_path_factory.mktemp("home")))


@pytest.fixture
async def copy(own: Settings) -> AsyncIterator[Settings]:
    async with copied(own) as made:
        yield made


async def test_a_ledger_that_nobody_touched_is_whole(own: Settings) -> None:
    report = await verified(own)
    assert report.findings == []
    assert (report.events, report.first_leaf, report.end_leaf) == (EVENTS, 0, EVENTS)
    assert (report.chains, report.checkpoints) == (ROUNDS * ORDERS * 2, ROUNDS)
    assert report.not_checked == []


async def test_a_range_is_verified_by_itself_from_what_the_tree_has_before_it(own: Settings) -> None:
    report = await verified(own, wanted=Wanted(begin=100, end=300))
    assert (report.findings, report.events) == ([], 200)
    assert any("Leaves before 100" in each for each in report.not_checked)
    with pytest.raises(Invalid, match=f"leaves 0 to {EVENTS - 1}"):
        await verified(own, wanted=Wanted(begin=0, end=EVENTS + 1))


async def test_an_edited_field_is_found_and_what_it_said_before_is_told_by_the_copy(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        row = await owner.fetchrow(
            "SELECT * FROM audit.events WHERE action = 'payment.confirmed' ORDER BY leaf_index OFFSET 3 LIMIT 1"
        )
        edited = row["body"].replace(b'"amount":3200', b'"amount":1200')
        await owner.execute("UPDATE audit.events SET body = $2 WHERE leaf_index = $1", row["leaf_index"], edited)
    report = await verified(copy)
    found = first(report)
    assert (found.kind, found.leaf, found.chain, found.position) == (Kind.EDITED, row["leaf_index"], row["chain"], 3)
    assert found.event_id == row["event_id"]
    assert "details.amount: 3200 became 1200" in found.sentence


async def test_an_edited_field_with_a_hash_made_to_fit_is_found_by_the_tree_and_by_the_next_link(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        row = await owner.fetchrow(
            "SELECT * FROM audit.events WHERE action = 'payment.confirmed' ORDER BY leaf_index OFFSET 3 LIMIT 1"
        )
        event = {**msgspec.json.decode(row["body"]), "reason": "gift"}
        prev = event.pop("prev_hash")
        del event["hash"]
        await owner.execute(
            "UPDATE audit.events SET body = $2 WHERE leaf_index = $1", row["leaf_index"], chain.seal(event, prev)[1]
        )
    report = await verified(copy)
    found = first(report)
    assert (found.kind, found.leaf, found.event_id) == (Kind.REPLACED, row["leaf_index"], row["event_id"])
    assert 'reason: null became "gift"' in found.sentence
    assert (Kind.LINK, row["chain"], 4) in {(each.kind, each.chain, each.position) for each in report.findings}
    assert Kind.ROOT in kinds(report)


@pytest.mark.parametrize(
    ("column", "value"), [("action", "order.cancelled"), ("actor_id", "somebody"), ("new_state", None), ("event_id", "aud_x")]
)
async def test_a_column_that_says_something_else_than_its_event_is_named(
    copy: Settings, column: str, value: str | None
) -> None:
    async with as_owner(copy) as owner:
        await owner.execute(f"UPDATE audit.events SET {column} = $1 WHERE leaf_index = 77", value)  # noqa: S608
    found = first(await verified(copy))
    assert (found.kind, found.leaf, found.source, found.found) == (Kind.COLUMN, 77, column, value or "")


async def test_a_time_in_the_columns_that_is_not_the_events_is_named(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        await owner.execute("UPDATE audit.events SET occurred_at = occurred_at - interval '1 hour' WHERE leaf_index = 77")
    found = first(await verified(copy))
    assert (found.kind, found.leaf, found.source) == (Kind.COLUMN, 77, "occurred_at")


async def test_a_deleted_event_is_named_by_its_leaf_and_its_place_in_its_order(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        row = await owner.fetchrow("DELETE FROM audit.events WHERE leaf_index = 130 RETURNING *")
    report = await verified(copy)
    found = first(report)
    assert (found.kind, found.leaf) == (Kind.MISSING_LEAF, 130)
    places = {(each.chain, each.position) for each in report.findings if each.kind in {Kind.GAP, Kind.HEAD}}
    assert (row["chain"], row["position"]) in places
    assert Kind.ROOT not in kinds(report)  # the tree's own hash stands in its place, and all the rest is as it was signed


async def test_a_deleted_event_that_was_covered_up_by_moving_the_others_up_is_found(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        await owner.execute("DELETE FROM audit.events WHERE leaf_index = 130")
        await owner.execute("UPDATE audit.events SET leaf_index = leaf_index + 10000 WHERE leaf_index > 130")
        await owner.execute("UPDATE audit.events SET leaf_index = leaf_index - 10001 WHERE leaf_index > 10000")
        await owner.execute("UPDATE audit.sequence SET next_leaf = next_leaf - 1")
        await owner.execute("UPDATE audit.tree SET size = size - 1")
    report = await verified(copy)
    assert (first(report).leaf, {Kind.REMOVED, Kind.TRUNCATED} <= kinds(report)) == (130, True)


async def test_a_deleted_tail_is_found(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        await owner.execute("DELETE FROM audit.events WHERE leaf_index >= 300")
    report = await verified(copy)
    assert (first(report).kind, first(report).leaf) == (Kind.MISSING_LEAF, 300)
    assert f"Leaves 300 to {EVENTS - 1} are gone" in first(report).sentence


async def test_a_deleted_tail_of_which_no_trace_is_left_in_the_ledger_is_found_by_the_checkpoints(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        await cut(owner, 240)
    report = await verified(copy, orders=False)
    assert [(each.kind, each.leaf) for each in report.findings] == [(Kind.TRUNCATED, 240)]
    assert "was signed for 360 leaves, and there are 240" in first(report).sentence


async def test_two_swapped_events_are_named(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        await owner.execute(
            "UPDATE audit.events SET leaf_index = CASE leaf_index WHEN 50 THEN 290 ELSE 50 END WHERE leaf_index IN (50, 290)"
        )
    report = await verified(copy)
    assert first(report).leaf == 50
    (swapped,) = [each for each in report.findings if each.kind is Kind.SWAPPED]
    assert "leaves 50 and 290 were swapped" in swapped.sentence


async def test_an_inserted_event_is_named(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        await owner.execute("UPDATE audit.events SET leaf_index = leaf_index + 10001 WHERE leaf_index >= 200")
        await owner.execute("UPDATE audit.events SET leaf_index = leaf_index - 10000 WHERE leaf_index >= 10001")
        await owner.execute(
            "INSERT INTO audit.events SELECT 200, sequenced_at, chain, position, event_id, action, actor_type, actor_id, new_state, "
            "occurred_at, body FROM audit.events WHERE leaf_index = 10"
        )
        await owner.execute("UPDATE audit.sequence SET next_leaf = next_leaf + 1")
    report = await verified(copy)
    assert first(report).leaf == 200
    assert {Kind.INSERTED, Kind.REPEATED} <= kinds(report)


async def test_a_second_event_at_a_leaf_is_named(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        await owner.execute(
            "INSERT INTO audit.events SELECT 200, sequenced_at + interval '1 microsecond', chain, position, event_id, action, "
            "actor_type, actor_id, new_state, occurred_at, body FROM audit.events WHERE leaf_index = 10"
        )
    report = await verified(copy)
    assert first(report).leaf == 200
    assert Kind.INSERTED in kinds(report)


async def test_an_event_at_the_end_that_nobody_gave_a_leaf_is_named(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        await owner.execute(
            "INSERT INTO audit.events SELECT $1, sequenced_at, chain, position, event_id, action, actor_type, actor_id, new_state, "
            "occurred_at, body FROM audit.events WHERE leaf_index = 10",
            EVENTS,
        )
    report = await verified(copy)
    assert {Kind.UNEXPECTED, Kind.REPEATED} <= kinds(report)
    assert first(report).leaf == EVENTS


async def test_chains_that_come_back_after_very_many_others_are_still_followed(copy: Settings) -> None:
    wanted = Wanted(most_heads=8, page_leaves=16, settle=timedelta(0))
    report = await verified(copy, wanted=wanted)
    assert (report.findings, report.chains) == ([], ROUNDS * ORDERS * 2)
    async with as_owner(copy) as owner:
        await owner.execute("DELETE FROM audit.events WHERE leaf_index = 130")
    assert {each.kind for each in (await verified(copy, wanted=wanted)).findings} == {Kind.MISSING_LEAF, Kind.GAP}


async def test_leaves_that_left_for_the_archive_are_verified_where_they_are(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        gone = [
            Gone(row["leaf_index"], row["body"])
            for row in await owner.fetch("DELETE FROM audit.events WHERE leaf_index < 200 RETURNING leaf_index, body")
        ]

        archives = (
            "INSERT INTO audit.archives (name, first_leaf, end_leaf, from_at, to_at, first_occurred_at, last_occurred_at, bytes, root, "
            "manifest, state) VALUES ('a', 0, $1, now(), now(), now(), now(), 1, sha256(''), '{}', 'cold')"
        )
        await owner.execute(archives, 190)
        report = await verified(copy, orders=False)
        assert "Leaves 190 to 199 are gone" in first(report).sentence  # in no archive either
        await owner.execute("UPDATE audit.archives SET end_leaf = 200")

    async def colder(first: int, end: int) -> AsyncIterator[Gone]:
        for each in sorted(gone):
            if first <= each.leaf_index < end:
                yield each

    wanted = Wanted(colder=colder, settle=timedelta(0))
    report = await verified(copy, wanted=wanted)
    assert (report.findings, report.events, report.checkpoints) == ([], EVENTS, ROUNDS)
    alone = await verified(copy, orders=False)
    assert (alone.findings, alone.first_leaf) == ([], 200)
    gone[7] = gone[7]._replace(body=gone[7].body.replace(b'"service":"tests"', b'"service":"texts"'))
    found = first(await verified(copy, wanted=wanted))
    assert (found.kind, found.leaf) == (Kind.EDITED, gone[7].leaf_index)
