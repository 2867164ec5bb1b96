"""What support asks about an order whose events have left the ledger for the archive is answered as if they had not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from adapters.archive_store import ArchiveStore
from adapters.postgres import connect, open_pool
from adapters.settings import PREFIX, Settings
from audit import keys
from bench.audit_making import delivered_changes
from console.audit import audit
from gateway.app import create_app
from gateway.archived import archived
from gateway.auth import issue
from gateway.context import Gateway
from gateway.watch import Watch
from orders.names import Role
from orders.order import Order
from orders.signing import verifier
from orders.tiles import unbundle
from orders.tlog_proof import verify_proof
from outbox.transition import apply, waits
from streams.archiving import copy_checkpoints, open_archiver
from tests.integration.archive_ground import MONDAY, archiver, put, steps
from tests.integration.audit_ground import at_home, checkpointed
from tests.integration.streams_making import database, rows


@pytest.fixture
def own(stack: Settings, tmp_path: Path) -> Iterator[Settings]:
    for settings in database(stack):
        yield msgspec.structs.replace(at_home(settings, tmp_path), archive_url=f"file://{tmp_path}/archive")


async def _delivered(own: Settings, at: datetime) -> tuple[Order, list[bytes]]:
    """An order of that time, in both databases; its audit events."""
    changes = delivered_changes(at)
    async with connect(own.migrate_url, service="tests") as owner:
        for change in changes:
            await apply(owner, change)
    bodies = [event.audit for change in changes for event in change.events]
    await put(own, at, bodies)
    return changes[-1].order, bodies


async def _archived(own: Settings) -> list[str]:
    store = await ArchiveStore.open(own.archive_url)
    done = [each.what for each in await steps(archiver(own, store), datetime.now(UTC))]
    await rows(own, "TRUNCATE order_events")  # hot for thirty days
    return done


@asynccontextmanager
async def _asking(own: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        open_pool(own.postgres_dsn, service="test", size=4) as pool,
        open_pool(own.audit_reader_url, service="test", size=4, lazy=True) as ledger,
    ):
        gateway = Gateway(own, pool, waits(own), Watch(pool), ledger=ledger, archive=archived(own, ledger))
        transport = httpx.ASGITransport(app=create_app(gateway), raise_app_exceptions=False)  # type: ignore[arg-type]
        token = issue(own, Role.SUPPORT, "sue", timedelta(hours=1))
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as http:
            yield http


async def _got(http: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await http.get(f"/v1/support{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_archived_orders_timeline_money_and_integrity_are_there(own: Settings) -> None:
    order, bodies = await _delivered(own, MONDAY + timedelta(days=1))
    await checkpointed(own)
    assert await _archived(own) == ["written", "verified", "gone from the ledger"]
    assert await rows(own, "SELECT FROM audit.events") == []
    async with _asking(own) as http:
        told = await _got(http, f"/orders/{order.order_id}/investigation")
    assert [each["action"] for each in told["timeline"]] == [msgspec.json.decode(body)["action"] for body in bodies]
    record = told["integrity"]["order"]
    assert (record["head_matches"], record["not_at_hand"], record["broken_at"]) == (True, 0, None)


async def test_an_archived_event_is_proven_to_whoever_has_the_logs_key(own: Settings) -> None:
    order, bodies = await _delivered(own, MONDAY + timedelta(days=1))
    await checkpointed(own)
    await _archived(own)
    event_id = msgspec.json.decode(bodies[4])["event_id"]
    async with _asking(own) as http:
        answer = await http.get(f"/v1/support/orders/{order.order_id}/proof/{event_id}")
        nothing = await http.get(f"/v1/support/orders/{order.order_id}/proof/aud_01958f6e-0000-8000-8000-000000000001")
    assert answer.status_code == 200, answer.text
    (key,) = keys.public_keys(own)
    assert verify_proof(answer.text, bodies[4], [verifier(key.vkey)]).checkpoint.size == 9
    assert nothing.status_code == 404


async def test_an_auditor_reads_archived_entries_of_the_log_over_http(own: Settings) -> None:
    _, bodies = await _delivered(own, MONDAY + timedelta(days=1))
    await checkpointed(own)
    await _archived(own)
    auditor = {"authorization": f"Bearer {issue(own, Role.AUDITOR, 'aud', timedelta(hours=1))}"}
    async with _asking(own) as http:
        answer = await http.get("/audit/log/tile/entries/000.p/9", headers=auditor)
    assert answer.status_code == 200, answer.text
    assert unbundle(answer.content) == bodies


async def test_a_search_spans_ledger_and_archive_page_by_page(own: Settings) -> None:
    old, _ = await _delivered(own, MONDAY + timedelta(days=1))
    await checkpointed(own)
    await _archived(own)
    new, _ = await _delivered(own, datetime.now(UTC) - timedelta(hours=2))
    async with _asking(own) as http:
        found: list[str] = []
        page = await _got(http, "/audit", action="order.placed", limit=1)
        while True:
            found += [each["event"]["order_id"] for each in page["events"]]
            if page["next_cursor"] is None:
                break
            page = await _got(http, "/audit", action="order.placed", limit=1, cursor=page["next_cursor"])
        delivered = await _got(http, "/audit", state="delivered", limit=50)
        one = await _got(http, "/audit", order_id=old.order_id, limit=50)
    assert found == [new.order_id, old.order_id]
    actions = [each["event"]["action"] for each in delivered["events"]]
    assert sorted(actions) == ["driver.delivered", "driver.delivered", "order.completed", "order.completed"]
    assert len(one["events"]) == 9
    assert one["missing"] == []


def _cut_short(own: Settings) -> Path:
    (part,) = Path(own.archive_url.removeprefix("file://")).rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-100])
    return part


async def test_a_damaged_archive_is_named_and_the_rest_is_told(own: Settings) -> None:
    old, _ = await _delivered(own, MONDAY + timedelta(days=1))
    await checkpointed(own)
    await _archived(own)
    new, _ = await _delivered(own, datetime.now(UTC) - timedelta(hours=2))
    part = _cut_short(own)
    async with _asking(own) as http:
        page = await _got(http, "/audit", action="order.placed", limit=50)
        told = await _got(http, f"/orders/{old.order_id}/investigation")
    assert [each["event"]["order_id"] for each in page["events"]] == [new.order_id]
    assert part.name in page["missing"][0]
    assert part.name in " ".join(told["integrity"]["not_checked"])


def test_the_command_line_verifies_exports_and_proves_what_is_archived(own: Settings, tmp_path: Path) -> None:
    order, bodies = asyncio.run(_delivered(own, MONDAY + timedelta(days=1)))
    asyncio.run(checkpointed(own))
    asyncio.run(_copied_and_archived(own))
    names = ("postgres_dsn", "audit_dsn", "audit_reader_dsn", "archive_url", "audit_origin", "kafka_bootstrap")
    environ = {f"{PREFIX}{name.upper()}": getattr(own, name) for name in names} | {f"{PREFIX}HOME": own.home}
    environ[f"{PREFIX}KAFKA_BOOTSTRAP"] = "127.0.0.1:9"  # another log's checkpoints are there
    run = lambda *words: CliRunner().invoke(audit, words, env=environ)  # noqa: E731
    verified = msgspec.json.decode(run("verify", "--json").stdout)
    assert (verified["events"], verified["findings"]) == (9, []), verified
    assert "the archive" in verified["checkpoint_sources"]
    exported, proofs = tmp_path / "order.jsonl", tmp_path / "order.tlog-proof"
    assert run("export", order.order_id, "-o", str(exported), "--proofs", str(proofs)).exit_code == 0
    assert exported.read_bytes().splitlines() == bodies
    alone = run("verify", "--export", str(exported), "--proofs", str(proofs))
    assert alone.exit_code == 0, alone.output
    event_id = msgspec.json.decode(bodies[8])["event_id"]
    (key,) = keys.public_keys(own)
    verify_proof(run("prove", event_id).stdout, bodies[8], [verifier(key.vkey)])


async def _copied_and_archived(own: Settings) -> None:
    async with open_archiver(own) as each:
        assert await copy_checkpoints(each.store, own, {}) == 1
    await _archived(own)
