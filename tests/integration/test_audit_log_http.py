"""The audit log over HTTP is what tlog-tiles says, and Go's own client of the checksum database reads, checks and watches it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import pytest

from adapters.postgres import open_pool
from adapters.settings import Settings
from audit import keys
from audit.checkpoint_files import CheckpointFiles
from gateway.app import create_app
from gateway.auth import issue
from gateway.context import Gateway
from gateway.server import Server, listen
from gateway.watch import Watch
from orders.merkle import leaf_hash
from orders.names import Role
from orders.tiles import unbundle
from outbox.transition import waits
from streams.checkpointing import folder_of
from tests.go import built, run
from tests.integration.audit_ground import checkpointed, stored
from tests.integration.verify_ground import as_owner, copied, signed_ledger

pytestmark = pytest.mark.timeout(600)  # the first build of the Go program fetches and compiles


@pytest.fixture(scope="module")
def own(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    for settings in signed_ledger(stack, Path(tmp_path_factory.mktemp("home"))):
        yield msgspec.structs.replace(settings, http_port=0, jwt_secret="x" * 40)


@dataclass(frozen=True)
class Log:
    """A served log, and whoever asks."""

    settings: Settings
    url: str
    http: httpx.AsyncClient

    def token(self, role: Role = Role.AUDITOR) -> str:
        return issue(self.settings, role, "somebody", timedelta(hours=1))

    async def get(self, path: str, role: Role | None = None, **headers: str) -> httpx.Response:
        given = {"Authorization": f"Bearer {self.token(role)}"} if role else {}
        return await self.http.get(f"{self.url}/{path}", headers={**given, **headers})


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Log]:
    stop = asyncio.Event()
    with listen(settings) as listener:
        async with (
            open_pool(settings.postgres_dsn, service="test", size=2) as pool,
            open_pool(settings.audit_reader_url, service="test", size=2, lazy=True) as ledger,
            httpx.AsyncClient() as http,
        ):
            app = create_app(Gateway(settings, pool, waits(settings), Watch(pool), ledger=ledger))
            task = asyncio.create_task(Server(app).serve_until(stop, listener))
            try:
                yield Log(settings, f"http://127.0.0.1:{listener.getsockname()[1]}/audit/log", http)
            finally:
                stop.set()
                await task


@pytest.fixture
async def log(own: Settings) -> AsyncIterator[Log]:
    async with serving(own) as served:
        yield served


async def test_gos_client_reads_checks_and_watches_the_log(own: Settings, log: Log) -> None:
    verify, files = built("verify"), CheckpointFiles(folder_of(own))
    first = Path(own.home) / "first.note"
    first.write_text(next(files.notes()))
    vkey = keys.public_keys(own)[0].vkey
    said = await asyncio.to_thread(run, verify, "watch", vkey, log.url, log.token(), first)
    assert said.startswith(f"{own.audit_origin} has 360 leaves")


async def test_gos_client_refuses_a_log_whose_entries_or_tiles_were_changed(own: Settings) -> None:
    verify, vkey = built("verify"), keys.public_keys(own)[0].vkey
    async with copied(own) as copy:
        async with as_owner(copy) as owner:
            await owner.execute(
                "UPDATE audit.events SET body = replace(encode(body, 'escape'), 'tests', 'texts')::bytea WHERE leaf_index = 5"
            )
        async with serving(copy) as changed:
            said = await asyncio.to_thread(run, verify, "watch", vkey, changed.url, changed.token(), status=1)
            assert "the entry of leaf 5 is another" in said
            assert "360 leaves" in await asyncio.to_thread(run, verify, "watch", vkey, changed.url)
            async with as_owner(copy) as owner:
                await owner.execute(
                    "UPDATE audit.tiles SET hashes = overlay(hashes PLACING '\\x00'::bytea FROM 33) WHERE level = 0 AND index = 0"
                )
            await asyncio.to_thread(run, verify, "watch", vkey, changed.url, status=1)


async def test_the_checkpoint_is_the_newest_signed_note(own: Settings, log: Log) -> None:
    answer = await log.get("checkpoint")
    assert (answer.status_code, answer.text) == (200, CheckpointFiles(folder_of(own)).last())
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=1"


async def test_a_tile_is_served_whole_and_as_the_narrower_one_that_it_once_was(log: Log) -> None:
    whole = await log.get("tile/0/000")
    part = await log.get("tile/0/000.p/120")
    assert (len(whole.content), part.content) == (8192, whole.content[: 120 * 32])
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert len((await log.get("tile/0/001.p/104")).content) == 104 * 32
    assert len((await log.get("tile/1/000.p/1")).content) == 32


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/001", "tile/0/001.p/105", "tile/0/002.p/1", "tile/1/000", "tile/2/000.p/1", "tile/00/000", "tile/0/0", "tile/0/x000/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
    ],
)  # fmt: skip
async def test_what_is_no_tile_of_the_log_is_not_found(log: Log, path: str) -> None:
    answer = await log.get(path)
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_entries_hash_to_their_tile_and_may_be_read_by_auditors_alone(log: Log) -> None:
    hashes = (await log.get("tile/0/001.p/104")).content
    answer = await log.get("tile/entries/001.p/104", Role.AUDITOR)
    assert b"".join(map(leaf_hash, unbundle(answer.content))) == hashes
    assert answer.headers["cache-control"].startswith("private,")
    assert len(unbundle((await log.get("tile/entries/000", Role.AUDITOR)).content)) == 256
    plain = await log.get("tile/entries/000", Role.AUDITOR, **{"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert (await log.get("tile/entries/000")).status_code == 401
    for role in set(Role) - {Role.AUDITOR, Role.SYSTEM}:
        assert (await log.get("tile/entries/000", role)).status_code == 403
    assert (await log.get("tile/entries/001", Role.AUDITOR)).status_code == 404


async def test_entries_that_were_dropped_after_their_time_are_gone_and_their_hashes_stay(own: Settings) -> None:
    async with copied(own) as copy, serving(copy) as log:
        async with as_owner(copy) as owner:
            await owner.execute("DELETE FROM audit.events WHERE leaf_index < 256")
            assert (await log.get("tile/entries/000", Role.AUDITOR)).status_code == 404
            await owner.execute(
                "INSERT INTO audit.archives (name, first_leaf, end_leaf, from_at, to_at, first_occurred_at, last_occurred_at, bytes, root, "
                "manifest, state) VALUES ('a', 0, 256, now(), now(), now(), now(), 1, sha256(''), '{}', 'dropped')"
            )
        answer = await log.get("tile/entries/000", Role.AUDITOR)
        assert (answer.status_code, answer.json()["type"]) == (410, "https://rushline.dev/problems/entries-dropped")
        assert (await log.get("tile/0/000")).status_code == 200


async def test_a_log_that_was_never_signed_has_no_checkpoint(own: Settings) -> None:
    async with copied(own) as copy, serving(copy) as log:
        async with as_owner(copy) as owner:
            await owner.execute("TRUNCATE audit.checkpoints")
        assert (await log.get("checkpoint")).status_code == 404


async def test_a_grown_log_still_serves_what_an_older_checkpoint_needs(own: Settings) -> None:
    async with copied(own) as copy, serving(copy) as log:
        before = (await log.get("tile/0/001.p/104")).content
        await stored(copy, 40)
        home = Path(copy.home) / "grown"
        grown = msgspec.structs.replace(copy, audit_checkpoints=str(home))
        await checkpointed(grown)
        assert (await log.get("tile/0/001.p/104")).content == before
        assert len((await log.get("tile/0/001")).content) == 8192
        assert (await log.get("checkpoint")).text.split("\n")[1] == "720"
