"""`rushline audit` as somebody uses it at three in the morning: what it says, hands out, records, and returns."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.settings import Settings
from audit import keys
from console.__main__ import main
from orders.signing import new_skey, vkey_of
from orders.verifier import main as verifier
from streams.checkpointing import folder_of
from tests.go import built, run
from tests.integration.streams_making import rows
from tests.integration.verify_ground import as_owner, copied, ledgered, signed_ledger
from tests.making import eventually, relaying

pytestmark = pytest.mark.timeout(600)
_FIELDS = ("postgres_dsn", "migrate_dsn", "audit_dsn", "audit_reader_dsn", "home")
_NO_KAFKA = {"RUSHLINE_KAFKA_BOOTSTRAP": "127.0.0.1:1"}  # its topic has the checkpoints of other tests' logs, too


@dataclass(frozen=True)
class Desk:
    """A terminal at which somebody sits, and what lies behind it."""

    settings: Settings

    async def type(self, *words: str, **changes: str) -> Result:
        env = {f"RUSHLINE_{name.upper()}": str(getattr(self.settings, name)) for name in _FIELDS} | _NO_KAFKA | changes
        return await asyncio.to_thread(CliRunner().invoke, main, ["audit", *words], env=env)

    async def one(self) -> tuple[str, str]:
        """An order of the ledger, and one of its events."""
        (row,) = await rows(
            self.settings,
            "SELECT chain, event_id FROM audit.events WHERE action = 'payment.confirmed' ORDER BY leaf_index LIMIT 1",
        )
        return row["chain"], row["event_id"]

    async def deeds(self, action: str) -> list[dict[str, Any]]:
        found = await rows(self.settings, "SELECT body FROM outbox WHERE type = $1 ORDER BY id", action)
        return [json.loads(row["body"]) for row in found]


@pytest.fixture(scope="module")
def own(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from signed_ledger(stack, Path(tmp_path_factory.mktemp("home")))


@pytest.fixture
async def desk(own: Settings) -> AsyncIterator[Desk]:
    async with copied(own) as copy:
        yield Desk(copy)


async def test_a_whole_record_is_said_to_be_whole_and_what_was_checked(desk: Desk) -> None:
    said = await desk.type("verify")
    assert said.exit_code == 0, said.output
    assert "The record is whole: 360 events of 72 chains, leaves 0 to 359." in said.stdout
    assert str(folder_of(desk.settings)) in said.stdout
    assert "audit.checkpoints of the ledger" in said.stdout


async def test_a_broken_record_ends_with_1_and_the_first_break_first(desk: Desk) -> None:
    async with as_owner(desk.settings) as owner:
        await owner.execute("DELETE FROM audit.events WHERE leaf_index = 130")
    said = await desk.type("verify")
    assert said.exit_code == 1
    assert "The record breaks. First: Leaf 130 is gone" in said.stdout
    report = json.loads((await desk.type("verify", "--json")).stdout)
    assert (report["findings"][0]["kind"], report["findings"][0]["leaf"]) == ("missing-leaf", 130)
    ranged = await desk.type("verify", "--to", "130")
    assert ranged.exit_code == 0, ranged.output


async def test_checkpoints_in_kafka_are_compared_too(own: Settings, tmp_path: Path) -> None:
    async with copied(own) as copy:
        async with relaying(copy):

            async def sent() -> None:
                assert not await rows(copy, "SELECT FROM outbox WHERE destination = 'audit.checkpoints'")

            await eventually(sent)
        async with as_owner(copy) as owner:
            await owner.execute("DELETE FROM audit.events WHERE leaf_index >= 240")
            await owner.execute("UPDATE audit.sequence SET next_leaf = 240")
            await owner.execute("TRUNCATE audit.checkpoints")
            await owner.execute("UPDATE audit.tree SET size = 240, root = (SELECT root FROM audit.tree)")
        (tmp_path / "empty.txt").touch()
        kafka = {"RUSHLINE_KAFKA_BOOTSTRAP": copy.kafka_bootstrap}
        said = await Desk(copy).type("verify", "--checkpoints", str(tmp_path), "--json", **kafka)
        findings = json.loads(said.stdout)["findings"]
        assert ("truncated", "the topic audit.checkpoints") in {(each["kind"], each["source"]) for each in findings}


async def test_kafka_that_is_away_is_said_to_be_not_checked(desk: Desk) -> None:
    said = await desk.type("verify")
    assert said.exit_code == 0, said.output
    assert "The checkpoints in Kafka were not compared" in said.stdout


async def test_another_key_believes_no_checkpoint(desk: Desk) -> None:
    said = await desk.type("verify", "--key", vkey_of(new_skey(desk.settings.audit_origin)))
    assert said.exit_code == 1
    assert "cannot be believed" in said.stdout


async def test_an_order_is_exported_with_proofs_that_others_programs_verify(desk: Desk, tmp_path: Path) -> None:
    order_id, _ = await desk.one()
    export, proofs = tmp_path / "order.jsonl", tmp_path / "order.tlog-proof"
    said = await desk.type("export", order_id, "-o", str(export), "--proofs", str(proofs), "--as", "anna")
    assert said.exit_code == 0, said.output
    assert "10 events" in said.stderr
    events = [json.loads(line) for line in export.read_text().splitlines()]
    assert [(each.get("chain") or each["order_id"], each["position"]) for each in events] == [
        *((order_id, position) for position in range(1, 10)), (f"{order_id}.looks", 1),
    ]  # fmt: skip
    vkey = keys.public_keys(desk.settings)[0].vkey
    assert verifier([str(export), "--proofs", str(proofs), "--key", vkey]) == 0
    assert "10 events, 2 chains" in await asyncio.to_thread(run, built("verify"), "export", vkey, export, proofs)
    (deed,) = await desk.deeds("audit.exported")
    assert (deed["chain"], deed["order_id"], deed["actor"]) == ("desk.anna", order_id, {"id": "anna", "type": "auditor"})
    checked = await desk.type("verify", "--export", str(export), "--proofs", str(proofs))
    assert checked.exit_code == 0, checked.output
    export.write_bytes(export.read_bytes().replace(b'"amount":3200', b'"amount":1200'))
    broken = await desk.type("verify", "--export", str(export), "--proofs", str(proofs))
    assert broken.exit_code == 1
    assert "was edited" in broken.stdout
    assert "line 3" in await asyncio.to_thread(run, built("verify"), "export", vkey, export, proofs, status=1)


async def test_the_whole_log_is_exported_and_verified_against_its_checkpoints(desk: Desk, tmp_path: Path) -> None:
    export = tmp_path / "log.jsonl"
    assert (await desk.type("export", "--log", "-o", str(export))).exit_code == 0
    given = ("verify", "--export", str(export), "--leaves", "0", "--checkpoints", str(folder_of(desk.settings)))
    said = await desk.type(*given)
    assert (said.exit_code, "360 events of 72 chains, 0 proofs, 3 checkpoints" in said.stdout) == (0, True), said.output
    export.write_bytes(b"".join(export.read_bytes().splitlines(keepends=True)[:-1]))
    cut = await desk.type(*given)
    assert (cut.exit_code, "The tail is gone" in cut.stdout) == (1, True)


async def test_a_part_of_the_log_has_a_proof_for_each_leaf(desk: Desk, tmp_path: Path) -> None:
    export, folder = tmp_path / "part.jsonl", tmp_path / "proofs"
    folder.mkdir()
    said = await desk.type("export", "--log", "--from", "250", "--to", "260", "-o", str(export), "--proofs", str(folder))
    assert said.exit_code == 0, said.output
    assert sorted(path.name for path in folder.iterdir()) == [f"{leaf}.tlog-proof" for leaf in range(250, 260)]


async def test_an_export_that_is_only_tried_writes_and_records_nothing(desk: Desk, tmp_path: Path) -> None:
    order_id, _ = await desk.one()
    said = await desk.type("export", order_id, "-o", str(tmp_path / "x"), "--dry-run")
    assert "10 events would be exported." in said.stderr
    assert not (tmp_path / "x").exists()
    assert await desk.deeds("audit.exported") == []


async def test_an_export_of_nothing_is_refused(desk: Desk) -> None:
    assert (await desk.type("export", "ord_none")).exit_code == 1
    assert (await desk.type("export")).exit_code == 1
    assert (await desk.type("export", "ord_none", "--log")).exit_code == 1


async def test_an_event_is_proven(desk: Desk, tmp_path: Path) -> None:
    _, event_id = await desk.one()
    said = await desk.type("prove", event_id)
    assert said.stdout.startswith("c2sp.org/tlog-proof@v1\nindex ")
    (row,) = await rows(desk.settings, "SELECT body FROM audit.events WHERE event_id = $1", event_id)
    leaf, proof = tmp_path / "leaf", tmp_path / "event.tlog-proof"
    leaf.write_bytes(row["body"])
    assert (await desk.type("prove", event_id, "-o", str(proof))).exit_code == 0
    assert proof.read_text() == said.stdout
    vkey = keys.public_keys(desk.settings)[0].vkey
    assert "tree of size 360" in await asyncio.to_thread(run, built("verify"), "proof", vkey, proof, leaf)


async def test_an_event_that_is_unknown_or_not_yet_signed_is_said_to_be_so(desk: Desk) -> None:
    unknown = await desk.type("prove", "aud_none")
    assert (unknown.exit_code, "no event of the log has the id aud_none" in unknown.stderr) == (1, True)
    await desk.type("export", (await desk.one())[0])
    await ledgered(desk.settings)
    (row,) = await rows(desk.settings, "SELECT event_id FROM audit.events WHERE action = 'audit.exported'")
    early = await desk.type("prove", row["event_id"])
    assert early.exit_code == 2
    assert "leaf 360 is in no checkpoint yet" in early.stderr
    assert "within 2 s" in early.stderr


async def test_the_verifier_keys_are_shown_and_never_the_private_ones(desk: Desk) -> None:
    said = await desk.type("key")
    assert said.stdout.strip() == keys.public_keys(desk.settings)[0].vkey
    assert json.loads((await desk.type("key", "--json")).stdout)[0]["vkey"] == said.stdout.strip()
    assert "PRIVATE" not in said.output


async def test_a_key_is_rotated_recorded_and_both_sign_for_a_while(desk: Desk, tmp_path: Path) -> None:
    desk = Desk(_with_keys_of_its_own(desk.settings, tmp_path))
    before = keys.public_keys(desk.settings)
    tried = await desk.type("key", "--rotate", "--dry-run")
    assert (tried.exit_code, keys.public_keys(desk.settings)) == (0, before)
    said = await desk.type("key", "--rotate", "--as", "anna", "--json")
    assert said.exit_code == 0, said.output
    new, old = keys.public_keys(desk.settings)
    assert (old.vkey, old.until is not None) == (before[0].vkey, True)
    (deed,) = await desk.deeds("log.key_rotated")
    assert deed["details"] == {"from": old.vkey.split("+")[1], "to": new.vkey.split("+")[1]}
    verified = await desk.type("verify", "--checkpoints", str(folder_of(desk.settings)))
    assert verified.exit_code == 0, verified.output


def _with_keys_of_its_own(settings: Settings, folder: Path) -> Settings:
    shutil.copytree(settings.home, folder / "home")
    return msgspec.structs.replace(settings, home=str(folder / "home"))


async def test_every_verb_explains_itself(desk: Desk) -> None:
    listed = (await desk.type("--help")).stdout
    for verb in ("verify", "prove", "export", "key"):
        assert verb in listed
        assert (await desk.type(verb, "--help")).exit_code == 0
