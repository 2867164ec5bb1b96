"""A ledger that is whole in itself, and is not the one that was signed or that the orders know."""

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from adapters.postgres import open_pool
from adapters.settings import Settings
from audit import keys
from audit.checkpoint_files import CheckpointFiles
from audit.verification.copies import from_path
from audit.verification.findings import Kind
from audit.verification.verifying import Wanted
from orders import chain
from orders.checkpoints import Checkpoint
from orders.names import State
from orders.notes import sign
from orders.signing import new_skey, signer
from streams.checkpointing import folder_of
from tests.integration.verify_ground import (
    as_owner,
    copied,
    first,
    grown_again,
    kinds,
    ledgered,
    rewrite,
    signed_ledger,
    verified,
)
from tests.making import walked


@pytest.fixture(scope="module")
def own(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from signed_ledger(stack, Path(tmp_path_factory.mktemp("home")))


@pytest.fixture
async def copy(own: Settings) -> AsyncIterator[Settings]:
    async with copied(own) as made:
        yield made


async def _chain_at(settings: Settings, leaf: int) -> str:
    async with as_owner(settings) as owner:
        found: str = await owner.fetchval("SELECT order_id FROM (SELECT chain AS order_id FROM audit.events WHERE leaf_index >= $1 "
                                          "AND chain LIKE 'ord%' AND chain NOT LIKE '%.looks' ORDER BY leaf_index LIMIT 1) x", leaf)  # fmt: skip
    return found


async def _rewritten(settings: Settings) -> str:
    """An order of the second round says that it was paid less; everything in the ledger is hashed anew."""
    order_id = await _chain_at(settings, 150)
    async with as_owner(settings) as owner:
        await rewrite(owner, order_id, 3, details={"amount": 1})
        await grown_again(owner)
    return order_id


async def test_everything_rewritten_with_fresh_hashes_is_found_by_the_checkpoints_alone(copy: Settings) -> None:
    await _rewritten(copy)
    inside = await verified(copy, sources=(), orders=False)
    assert inside.findings == []  # nothing within the ledger says so
    assert any("proves nothing" in each for each in inside.not_checked)
    report = await verified(copy, orders=False)
    found = first(report)
    assert [each.kind for each in report.findings] == [Kind.ROOT]
    assert "leaves 120 to 239" in found.sentence
    assert "the first 120 are as they were signed" in found.sentence
    assert "1 later" in found.sentence


async def test_which_order_was_rewritten_and_in_what_is_told_by_the_orders_own_record(copy: Settings) -> None:
    order_id = await _rewritten(copy)
    report = await verified(copy)
    (found,) = [each for each in report.findings if each.kind is Kind.ORDER]
    assert found.chain == order_id
    assert "differs at position 3: details.amount: 3200 became 1" in found.sentence


async def test_an_order_that_was_removed_altogether_is_found_by_its_gaps(copy: Settings) -> None:
    order_id = await _chain_at(copy, 150)
    async with as_owner(copy) as owner:
        leaves = [
            row[0] for row in await owner.fetch("DELETE FROM audit.events WHERE chain = $1 RETURNING leaf_index", order_id)
        ]
        await owner.execute("DELETE FROM audit.heads WHERE chain = $1", order_id)
    report = await verified(copy)
    assert (first(report).kind, first(report).leaf) == (Kind.MISSING_LEAF, min(leaves))


async def test_an_order_removed_before_it_was_signed_is_found_by_the_orders_database(copy: Settings) -> None:
    async with open_pool(copy.postgres_dsn, service="tests", size=1) as pool:
        order = await walked(pool, State.DELIVERED)
    await ledgered(copy)
    async with as_owner(copy) as owner:
        await owner.execute("DELETE FROM audit.events WHERE chain = $1", order.order_id)
        await owner.execute("DELETE FROM audit.heads WHERE chain = $1", order.order_id)
        await owner.execute("UPDATE audit.sequence SET next_leaf = (SELECT max(leaf_index) + 1 FROM audit.events)")
    report = await verified(copy)
    assert [(each.kind, each.chain, each.position) for each in report.findings] == [(Kind.ORDER, order.order_id, 1)]
    assert "in the ledger it is not there at all" in first(report).sentence


async def test_an_order_that_is_on_its_way_into_the_ledger_is_no_finding(copy: Settings) -> None:
    async with open_pool(copy.postgres_dsn, service="tests", size=1) as pool:
        await walked(pool, State.PLACED)
        report = await verified(copy)
        assert (report.findings, report.on_their_way) == ([], 1)  # its row waits in the outbox
        async with as_owner(copy) as owner:
            await owner.execute("DELETE FROM outbox")
        report = await verified(copy, wanted=Wanted(settle=timedelta(minutes=10)))
        assert (report.findings, report.on_their_way) == ([], 1)  # as it may be between the outbox and the ledger
        assert kinds(await verified(copy)) == {Kind.ORDER}


async def test_an_order_that_only_the_ledger_knows_is_named(copy: Settings) -> None:
    order_id = await _chain_at(copy, 150)
    async with as_owner(copy) as owner:
        await owner.execute("DELETE FROM orders WHERE order_id = $1", order_id)
    report = await verified(copy)
    assert [(each.kind, each.chain) for each in report.findings] == [(Kind.ORDER, order_id)]


async def test_two_signed_histories_of_one_size_are_a_fork(own: Settings, tmp_path: Path) -> None:
    other = Checkpoint(own.audit_origin, 240, b"\7" * 32)
    CheckpointFiles(tmp_path).append(keys.load(own).sign_text(other.text(), datetime.now(UTC)), datetime.now(UTC))
    report = await verified(own, sources=(from_path(folder_of(own)), from_path(tmp_path)))
    (found,) = report.findings
    assert found.kind is Kind.FORK
    assert "240 leaves" in found.sentence
    assert {found.said, found.found} >= {"07" * 32}


async def test_a_signed_history_that_is_shorter_than_one_that_holds_is_a_fork(own: Settings, tmp_path: Path) -> None:
    other = Checkpoint(own.audit_origin, 200, b"\7" * 32)
    CheckpointFiles(tmp_path).append(keys.load(own).sign_text(other.text(), datetime.now(UTC)), datetime.now(UTC))
    report = await verified(own, sources=(from_path(folder_of(own)), from_path(tmp_path)))
    assert [each.kind for each in report.findings] == [Kind.FORK]
    assert "for 200 leaves is not of the history that was signed for 360" in first(report).sentence


async def test_a_checkpoint_signed_by_another_key_is_named(own: Settings, tmp_path: Path) -> None:
    real = CheckpointFiles(folder_of(own)).last()
    assert real is not None
    stranger = signer(new_skey(own.audit_origin))
    CheckpointFiles(tmp_path).append(sign(real.partition("\n\n")[0] + "\n", stranger), datetime.now(UTC))
    report = await verified(own, sources=(from_path(tmp_path),))
    assert [each.kind for each in report.findings] == [Kind.SIGNATURE]
    assert "360 leaves" in first(report).sentence
    assert stranger.key_id.hex() in first(report).sentence


async def test_tiles_that_are_not_those_of_the_events_are_named(copy: Settings) -> None:
    async with as_owner(copy) as owner:
        await owner.execute("UPDATE audit.tiles SET hashes = overlay(hashes PLACING '\\x00'::bytea FROM 1) WHERE level = 1")
    report = await verified(copy)
    assert kinds(report) == {Kind.TILE}
    assert "level 1 differs for the leaves 0 to 255" in first(report).sentence


async def test_a_head_that_is_not_its_last_event_is_named(copy: Settings) -> None:
    order_id = await _chain_at(copy, 150)
    async with as_owner(copy) as owner:
        await owner.execute("UPDATE audit.heads SET hash = sha256('x') WHERE chain = $1", order_id)
    report = await verified(copy)
    assert (Kind.HEAD, order_id) in {(each.kind, each.chain) for each in report.findings}


async def test_what_was_set_aside_is_reported_and_not_taken_for_a_deletion(copy: Settings) -> None:
    order_id = await _chain_at(copy, 0)
    async with as_owner(copy) as owner:
        row = await owner.fetchrow(
            "SELECT position, body FROM audit.events WHERE chain = $1 ORDER BY position DESC LIMIT 1", order_id
        )
        event = {**msgspec.json.decode(row["body"]), "position": row["position"] + 1}
        digest = event.pop("hash")
        del event["prev_hash"]
        broken = chain.seal({**event, "reason": secrets.token_hex(4)}, "ab" * 32)
        await owner.execute(
            "INSERT INTO audit.broken_events (chain, position, reason, body) VALUES ($1, $2, 'it links elsewhere', $3)",
            order_id, row["position"] + 1, broken[1],
        )  # fmt: skip
        await owner.execute(
            "UPDATE audit.heads SET position = position + 1, hash = decode($2, 'hex') WHERE chain = $1", order_id, broken[0]
        )
        await owner.execute(
            "UPDATE orders SET position = position + 1, chain_head = $2 WHERE order_id = $1", order_id, broken[0]
        )
    assert digest
    report = await verified(copy)
    assert (first(report).kind, first(report).chain, first(report).position) == (Kind.SET_ASIDE, order_id, row["position"] + 1)
    assert Kind.GAP not in kinds(report)
