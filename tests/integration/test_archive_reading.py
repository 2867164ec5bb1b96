"""Whether an event is in the ledger or in the archive makes no difference to whoever asks for it."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from adapters.archive_store import ArchiveStore
from adapters.postgres import Connection, connect
from adapters.settings import Settings
from audit import reader
from audit.reader import Filter
from orders import chain
from orders.errors import Invalid, NotFound
from tests.integration.archive_ground import MONDAY, archiver, desk_events, put, steps, weeks
from tests.integration.audit_ground import at_home, checkpointed
from tests.integration.streams_making import database

_WEEK = timedelta(weeks=1)
_NOBODY = "nobody"


@pytest.fixture(scope="module")
def own(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    for settings in database(stack):
        yield at_home(settings, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def made(own: Settings, folder: Path) -> list[bytes]:
    """Four weeks of events in the log's order: two of them in the archive, each with some of one person's."""
    return asyncio.run(_filled(own, folder))


async def _filled(own: Settings, folder: Path) -> list[bytes]:
    store = await ArchiveStore.open(f"file://{folder}")
    looks = desk_events("desk.ann", 8, MONDAY)
    for number in range(4):
        at = MONDAY + number * _WEEK
        await put(own, at + timedelta(hours=20), looks[2 * number : 2 * number + 2])
        await weeks(own, [12 - number], at)
    await checkpointed(own)
    await steps(archiver(own, store), MONDAY + 2 * _WEEK + timedelta(days=91))
    async with connect(own.audit_reader_url, service="tests") as db:
        assert await db.fetchval("SELECT min(leaf_index) FROM audit.events") == 2 * 2 + (12 + 11) * 9
        return [each.body async for each in reader.events_in(db, store, 0, 8 + 42 * 9)]


@pytest.fixture
async def both(own: Settings, folder: Path, made: list[bytes]) -> AsyncIterator[tuple[Connection, ArchiveStore]]:
    async with connect(own.audit_reader_url, service="tests") as db:
        yield db, await ArchiveStore.open(f"file://{folder}")


def _at(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["occurred_at"])


def _matching(made: list[bytes], wanted: Filter) -> list[int]:
    """What a page must hold, found the plain way."""
    found = []
    for leaf, body in enumerate(made):
        event = msgspec.json.decode(body)
        if (
            wanted.actor_id in {None, event["actor"]["id"]}
            and wanted.action in {None, event["action"]}
            and wanted.new_state in {None, event.get("new_state", _NOBODY)}
            and wanted.order_id in {None, chain.chain_of(event)}
            and (wanted.since is None or _at(event) >= wanted.since)
            and (wanted.before is None or _at(event) < wanted.before)
        ):
            found.append((_at(event), leaf))
    return [leaf for _, leaf in sorted(found, reverse=True)]


def _questions(made: list[bytes]) -> dict[str, Filter]:
    customer = msgspec.json.decode(made[5])["actor"]["id"]
    order = msgspec.json.decode(made[40])["order_id"]
    return {
        "all": Filter(),
        "a person's": Filter(actor_id="ann"),
        "a customer's": Filter(actor_id=customer),
        "an action": Filter(action="driver.assigned"),
        "a state": Filter(new_state="delivered"),
        "an order": Filter(order_id=order),
        "some days": Filter(since=MONDAY + timedelta(days=5), before=MONDAY + timedelta(days=9)),
        "a state in some days": Filter(
            new_state="picked_up", since=MONDAY + timedelta(days=5), before=MONDAY + timedelta(days=16)
        ),
        "nothing": Filter(action="no.such"),
        "before everything": Filter(before=MONDAY - timedelta(days=1)),
    }


@pytest.mark.parametrize("name", list(_questions([b'{"actor":{"id":"x"},"order_id":"y"}'] * 41)))
async def test_pages_hold_what_matches_the_newest_first_across_ledger_and_archive(
    both: tuple[Connection, ArchiveStore], made: list[bytes], name: str
) -> None:
    wanted, found = _questions(made)[name], []
    after = None
    while True:
        page = await reader.search(*both, wanted, after=after, limit=37)
        assert not page.missing
        assert all(made[each.leaf_index] == each.body for each in page.events)
        found += [each.leaf_index for each in page.events]
        after = page.after
        if after is None:
            break
    assert found == _matching(made, wanted)


async def test_a_page_of_no_size_is_refused(both: tuple[Connection, ArchiveStore]) -> None:
    with pytest.raises(Invalid, match="limit"):
        await reader.search(*both, Filter(), limit=0)


async def test_a_chain_that_goes_on_for_weeks_is_read_from_the_archive_and_the_ledger(
    both: tuple[Connection, ArchiveStore], made: list[bytes]
) -> None:
    found = await reader.events_of_chains(*both, ["desk.ann"])
    assert [each.position for each in found] == list(range(1, 9))
    assert chain.first_broken(msgspec.json.decode(each.body) for each in found) is None
    assert [each.body for each in found] == [body for body in made if b'"chain":"desk.ann"' in body]


async def test_every_order_is_there_with_all_its_events(both: tuple[Connection, ArchiveStore], made: list[bytes]) -> None:
    chains = {chain.chain_of(msgspec.json.decode(body)) for body in made}
    found = await reader.events_of_chains(*both, sorted(chains))
    assert sorted(each.leaf_index for each in found) == list(range(len(made)))


async def test_an_event_is_found_by_its_id_wherever_it_is(both: tuple[Connection, ArchiveStore], made: list[bytes]) -> None:
    for leaf in (3, 200, len(made) - 1):
        event = msgspec.json.decode(made[leaf])
        for known in (None, chain.chain_of(event)):
            assert (await reader.find(*both, event["event_id"], known)).leaf_index == leaf
    with pytest.raises(NotFound):
        await reader.find(*both, "aud_no-such")


async def test_a_range_of_leaves_is_read_from_anywhere_to_anywhere(
    both: tuple[Connection, ArchiveStore], made: list[bytes]
) -> None:
    for first, end in ((0, 1), (105, 115), (200, 330), (len(made) - 1, len(made)), (50, 50)):
        found = [(each.leaf_index, each.body) async for each in reader.events_in(*both, first, end)]
        assert found == list(enumerate(made))[first:end]


async def test_without_an_archive_there_is_what_the_ledger_has(own: Settings, made: list[bytes]) -> None:
    async with connect(own.audit_reader_url, service="tests") as db:
        page = await reader.search(db, None, Filter(actor_id="ann"))
    assert [each.position for each in page.events] == [8, 7, 6, 5]


def _mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\1" + _mth(leaves[:half]) + _mth(leaves[half:])).digest()


def test_a_stranger_reads_and_verifies_the_archive_with_duckdb_and_a_hash_alone(folder: Path, made: list[bytes]) -> None:
    seen: list[bytes] = []
    for path in sorted(folder.glob("events/*/manifest.json")):
        manifest = msgspec.json.decode(path.read_bytes())
        found = duckdb.sql(f"SELECT body FROM read_parquet('{path.parent}/*.parquet') ORDER BY leaf_index").fetchall()  # noqa: S608
        leaves = [body.encode() for (body,) in found]
        assert _mth(leaves).hex() == manifest["root"]
        seen += leaves
        _, size, root, *_ = manifest["tree"]["note"].split("\n")
        assert (size, base64.b64decode(root).hex()) == (str(manifest["tree"]["size"]), manifest["tree"]["root"])
        if manifest["tree"]["size"] == len(seen):
            assert _mth(seen).hex() == manifest["tree"]["root"]
    assert seen == made[: len(seen)]
    assert len(seen) == 2 * 2 + (12 + 11) * 9


def test_the_columns_are_those_of_the_events(folder: Path, made: list[bytes]) -> None:
    names = "leaf_index, chain, position, event_id, action, actor_type, actor_id, new_state, epoch_us(occurred_at)"
    for row in duckdb.sql(f"SELECT {names} FROM read_parquet('{folder}/events/*/*.parquet')").fetchall():  # noqa: S608
        event = msgspec.json.decode(made[row[0]])
        at = (_at(event) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        actor = event["actor"]
        assert row[1:] == (
            chain.chain_of(event), event["position"], event["event_id"], event["action"], actor["type"], actor["id"],
            event.get("new_state"), at,
        )  # fmt: skip
