"""The audit log's events enter its tree in order, and what is signed for it can never be taken back unseen."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from adapters.postgres import Connection, connect
from adapters.settings import BadSettingError, Settings
from audit import keys, tree
from audit.checkpoint_files import CheckpointFiles
from audit.signing import LogForked, newest
from orders.checkpoints import Checkpoint, open_checkpoint
from orders.merkle import Frontier, leaf_hash
from orders.notes import UnknownSigners
from orders.proofs import verify_consistency, verify_inclusion
from orders.signing import verifier
from outbox import alerts
from streams.checkpointing import BROKEN, REFUSED, Checkpointing, folder_of
from tests.integration.audit_ground import at_home, checkpointed, own_and_main, store, stored
from tests.integration.streams_making import database, rows
from tests.making import eventually
from tests.witness import witness


@pytest.fixture
def own(flavoured: Settings, tmp_path: Path) -> Iterator[Settings]:
    for settings in database(flavoured):
        yield at_home(settings, tmp_path)


def _root(bodies: list[bytes]) -> bytes:
    found = Frontier()
    found.extend(map(leaf_hash, bodies))
    return found.root()


async def _newest(settings: Settings) -> Checkpoint:
    async with connect(settings.audit_reader_url, service="tests") as reader:
        note = await newest(reader)
    assert note is not None
    public = [verifier(key.vkey) for key in keys.public_keys(settings)]
    return open_checkpoint(note, public).checkpoint


async def test_a_checkpoint_signs_the_root_over_every_stored_event_in_the_logs_order(own: Settings) -> None:
    bodies = [body for bodies in await stored(own, 40) for body in bodies]
    assert await checkpointed(own) == len(bodies) == 360
    found = await _newest(own)
    assert (found.origin, found.size, found.root) == (own.audit_origin, 360, _root(bodies))


async def test_each_checkpoint_goes_on_from_the_one_before_and_proofs_show_it(own: Settings) -> None:
    bodies: list[bytes] = []
    seen: list[Checkpoint] = []
    for orders in (1, 30, 2):
        bodies += [body for made in await stored(own, orders) for body in made]
        await checkpointed(own)
        seen.append(await _newest(own))
    assert [each.size for each in seen] == [9, 279, 297]
    async with connect(own.audit_reader_url, service="tests") as reader:
        for old, new in ((0, 1), (1, 2), (0, 2)):
            proof = await tree.consistency(reader, seen[old].size, seen[new].size)
            verify_consistency(seen[old].size, seen[new].size, proof, seen[old].root, seen[new].root)
        proof = await tree.inclusion(reader, 270, 297)
    verify_inclusion(leaf_hash(bodies[270]), 270, 297, proof, seen[2].root)


async def test_a_checkpoint_is_kept_as_a_file_served_and_sent_to_kafka_by_the_outbox(own: Settings) -> None:
    await stored(own)
    await checkpointed(own)
    async with own_and_main(own) as (ledger, main):
        note = await newest(ledger)
        (row,) = await main.fetch("SELECT body, broker, aggregate_id FROM outbox WHERE destination = 'audit.checkpoints'")
    assert CheckpointFiles(folder_of(own)).last() == note
    assert (row["body"].decode(), row["broker"], row["aggregate_id"]) == (note, "kafka", own.audit_origin)
    assert await checkpointed(own) == 9  # nothing new: the same once more for whoever begins again
    assert list(CheckpointFiles(folder_of(own)).notes()) == [note]


async def test_what_was_signed_and_not_published_before_a_crash_is_published_by_the_next(own: Settings) -> None:
    await stored(own)
    await checkpointed(own)
    note = CheckpointFiles(folder_of(own)).last()
    await rows(own, "DELETE FROM audit.checkpoints")
    assert await checkpointed(own) == 9
    async with connect(own.audit_reader_url, service="tests") as reader:
        assert await newest(reader) == note


async def test_two_at_once_make_one_log(own: Settings) -> None:
    made = await stored(own, 100)
    sizes = await asyncio.gather(*(checkpointed(own) for _ in range(6)))
    assert max(sizes) == 900
    found = await _newest(own)
    assert (found.size, found.root) == (900, _root([body for bodies in made for body in bodies]))


async def test_a_ledger_that_was_rewritten_is_not_signed_and_somebody_is_told(own: Settings) -> None:
    await stored(own)
    await checkpointed(own)
    await rows(own, "TRUNCATE audit.events, audit.tiles, audit.heads, audit.checkpoints")
    await rows(own, "UPDATE audit.tree SET size = 0, root = sha256('')")
    await rows(own, "UPDATE audit.sequence SET next_leaf = 0")
    await stored(own, 2)  # another history, whole in itself, and longer
    with pytest.raises(LogForked, match="first 9 leaves have root"):
        await checkpointed(own)
    stop = asyncio.Event()
    task = asyncio.create_task(Checkpointing(msgspec.structs.replace(own, audit_checkpoint_ms=20)).run(stop))
    async with connect(own.postgres_dsn, service="tests") as main:

        async def told() -> None:
            assert [(each.kind, each.subject) for each in await alerts.open_alerts(main)] == [(REFUSED, own.audit_origin)]

        await eventually(told)
    stop.set()
    await task
    assert len(list(CheckpointFiles(folder_of(own)).notes())) == 1


async def test_a_log_that_lost_its_end_is_not_signed(own: Settings) -> None:
    await stored(own, 2)
    await checkpointed(own)
    await rows(own, "UPDATE audit.tree SET size = 9")
    await rows(own, "DELETE FROM audit.events WHERE leaf_index >= 9")
    with pytest.raises(LogForked, match="9 leaves, and 18 were signed"):
        await checkpointed(own)


async def test_a_leaf_that_is_missing_before_it_was_signed_stops_the_log(own: Settings) -> None:
    await stored(own)
    await rows(own, "DELETE FROM audit.events WHERE leaf_index = 4")
    with pytest.raises(tree.LogBroken, match="leaf 4 is missing: the ledger goes on with leaf 5"):
        await checkpointed(own)


async def test_a_rotated_key_signs_beside_the_old_one_until_its_time_is_over(own: Settings) -> None:
    await stored(own)
    await checkpointed(own)
    (old,) = keys.public_keys(own)
    keys.rotate(own, datetime.now(UTC), timedelta(days=1))
    await stored(own)
    await checkpointed(own)
    new, before = keys.public_keys(own)
    assert (before.vkey, before.until is None, new.until) == (old.vkey, False, None)
    async with connect(own.audit_reader_url, service="tests") as reader:
        note = await newest(reader)
        assert note is not None
        for key in (old, new):
            assert open_checkpoint(note, [verifier(key.vkey)]).checkpoint.size == 18
        keys.rotate(own, datetime.now(UTC) - timedelta(days=2), timedelta(days=1))
        late = keys.load(own).sign_text("x\n1\ny=\n", datetime.now(UTC) + timedelta(days=2))
    newest_key = keys.public_keys(own)[0]
    with pytest.raises(UnknownSigners):
        open_checkpoint(late, [verifier(old.vkey)])
    assert newest_key.vkey.split("+")[1] != new.vkey.split("+")[1]


async def test_a_lost_key_is_asked_for_and_never_made_anew(own: Settings) -> None:
    await stored(own)
    await checkpointed(own)
    keys.path_of(own).unlink()
    with pytest.raises(keys.KeysMissing, match="restore it"):
        await checkpointed(own)
    assert not keys.path_of(own).exists()


def test_the_private_key_is_its_owners_alone(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path))
    made = keys.make(settings, datetime.now(UTC))
    assert keys.make(settings, datetime.now(UTC)).public == made.public
    assert keys.path_of(settings).stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in keys.path_of(settings).with_name("verifier-keys").read_bytes()


async def test_an_event_that_does_not_fit_its_chain_is_alarmed(own: Settings) -> None:
    made = await stored(own)
    await rows(
        own, "INSERT INTO audit.broken_events (chain, position, reason, body) VALUES ('ord_x', 3, 'it links to nothing', '{}')"
    )
    await checkpointed(own)
    async with connect(own.postgres_dsn, service="tests") as main:
        (alert,) = await alerts.open_alerts(main)
    assert (alert.kind, alert.subject, alert.detail) == (BROKEN, "ord_x", "position 3: it links to nothing")
    assert len(made) == 1


async def test_many_writers_at_once_leave_no_gap_in_the_log(own: Settings) -> None:
    made = await asyncio.gather(*(stored(own, 3) for _ in range(12)))
    found = await rows(own, "SELECT leaf_index, body FROM audit.events ORDER BY leaf_index")
    assert [row["leaf_index"] for row in found] == list(range(12 * 27))
    assert {row["body"] for row in found} == {body for some in made for bodies in some for body in bodies}
    times = await rows(own, "SELECT sequenced_at FROM audit.events ORDER BY leaf_index")
    assert [row["sequenced_at"] for row in times] == sorted(row["sequenced_at"] for row in times)


async def test_a_stored_event_is_not_taken_twice_into_the_log(own: Settings) -> None:
    (bodies,) = await stored(own)
    with pytest.raises(AssertionError):
        await store(own, bodies[:1])
    assert await checkpointed(own) == 9


async def test_an_independent_witness_cosigns_each_checkpoint_and_one_that_is_away_delays_nothing(own: Settings) -> None:
    keys.make(own, datetime.now(UTC))
    (key,) = keys.public_keys(own)
    async with witness({own.audit_origin: key.vkey}) as peer:
        watched = msgspec.structs.replace(own, audit_witnesses=f"{peer.url} {peer.vkey}")
        loop = Checkpointing(watched)
        async with own_and_main(own) as (ledger, main):
            for size in (9, 18):
                await stored(own)
                assert await loop.step(ledger, main) == size
                await _cosigned(ledger, key.vkey, peer.vkey, size)
            await stored(own)
            assert await Checkpointing(watched).step(ledger, main) == 27  # one that does not know what the witness has seen
            await _cosigned(ledger, key.vkey, peer.vkey, 27)
    async with own_and_main(own) as (ledger, main):
        await stored(own)
        assert await loop.step(ledger, main) == 36
        note = await newest(ledger)
        assert note is not None
        assert open_checkpoint(note, [verifier(key.vkey)], witnesses=[verifier(peer.vkey)]).cosignatures == ()


async def _cosigned(ledger: Connection, vkey: str, witness_vkey: str, size: int) -> None:
    note = await newest(ledger)
    assert note is not None
    found = open_checkpoint(note, [verifier(vkey)], witnesses=[verifier(witness_vkey)])
    assert (found.checkpoint.size, len(found.cosignatures)) == (size, 1)


def test_a_witness_that_cannot_be_read_from_the_settings_is_named() -> None:
    with pytest.raises(BadSettingError, match="RUSHLINE_AUDIT_WITNESSES"):
        Checkpointing(Settings(audit_witnesses="http://127.0.0.1:1 no-key"))
