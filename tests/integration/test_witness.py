"""An independent witness cosigns our checkpoints as long as they are consistent, and ours is the client that it asks for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.witness import WitnessAway, WitnessConflict, WitnessRefused, cosign
from orders import signing
from orders.checkpoints import Checkpoint, open_checkpoint
from orders.notes import SignatureWrong, UnknownSigners, sign
from orders.proofs import consistency_proof, root_of
from orders.tlog_proof import TlogProof, verify_proof
from tests.trees import Naive, entries, stored
from tests.witness import NAME, Witness, witness

pytestmark = pytest.mark.timeout(600)  # the first build on a machine fetches and compiles
ORIGIN = "rushline.example/audit"
TIMEOUT_MS = 10_000
TREE = Naive(entries(1_000))
TILES = stored(TREE.leaves)
SKEY = signing.new_skey(ORIGIN)
LOG = signing.verifier(signing.vkey_of(SKEY))


@pytest.fixture
async def peer() -> AsyncIterator[Witness]:
    async with witness({ORIGIN: signing.vkey_of(SKEY)}) as started:
        yield started


def _note(size: int, skey: str = SKEY, origin: str = ORIGIN) -> str:
    return sign(Checkpoint(origin, size, root_of(size, TILES)).text(), signing.signer(skey))


async def _cosigned(peer: Witness, old: int, new: int) -> str:
    """The note with the witness's lines below it."""
    note = _note(new)
    return note + await cosign(peer.url, old, consistency_proof(old, new, TILES), note, timeout_ms=TIMEOUT_MS)


async def test_a_witness_cosigns_what_grows_and_its_cosignature_holds(peer: Witness) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    for old, new in [(0, 1), (1, 255), (255, 256), (256, 1_000), (1_000, 1_000)]:
        opened = open_checkpoint(await _cosigned(peer, old, new), [LOG], witnesses=[signing.verifier(peer.vkey)])
        assert opened.checkpoint.size == new
        assert [each.name for each in opened.cosignatures] == [NAME]
        assert before <= signing.cosigned_at(opened.cosignatures[0]) <= datetime.now(UTC)


async def test_a_proof_carries_the_cosignature(peer: Witness) -> None:
    known = signing.verifier(peer.vkey)
    note = await _cosigned(peer, 0, 1_000)
    proof = str(TlogProof(17, tuple(TREE.path(17, 0, 1_000)), note))
    assert len(verify_proof(proof, TREE.entries[17], [LOG], witnesses=[known]).cosignatures) == 1
    moved = note.replace(note.splitlines()[-1], _note(1_000).splitlines()[-1])  # the log's line twice, none of the witness
    assert open_checkpoint(moved, [LOG], witnesses=[known]).cosignatures == ()
    other = sign(Checkpoint(ORIGIN, 999, TREE.root(999)).text(), signing.signer(SKEY)) + note.splitlines()[-1] + "\n"
    with pytest.raises(SignatureWrong, match=NAME):
        open_checkpoint(other, [LOG], witnesses=[known])


async def test_a_witness_that_saw_another_size_says_which_and_takes_the_proof_from_there(peer: Witness) -> None:
    await _cosigned(peer, 0, 300)
    for old, new in [(0, 1_000), (299, 1_000), (301, 1_000), (100, 200)]:
        with pytest.raises(WitnessConflict) as conflict:
            await _cosigned(peer, old, new)
        assert conflict.value.size == 300
    await _cosigned(peer, 300, 1_000)


async def test_a_witness_cosigns_no_other_past(peer: Witness) -> None:
    await _cosigned(peer, 0, 300)
    rewritten = Naive([*TREE.entries[:5], b"another past", *TREE.entries[6:]])
    note = sign(Checkpoint(ORIGIN, 1_000, rewritten.root(1_000)).text(), signing.signer(SKEY))
    for proof in (rewritten.proof(300, 1_000), TREE.proof(300, 1_000), []):
        with pytest.raises(WitnessRefused, match="not consistent with the one that it cosigned") as refused:
            await cosign(peer.url, 300, proof, note, timeout_ms=TIMEOUT_MS)
        assert refused.value.status == 422
    await _cosigned(peer, 300, 1_000)


async def test_a_witness_takes_no_strangers_checkpoint(peer: Witness) -> None:
    strangers = [_note(5, skey=signing.new_skey(ORIGIN)), _note(5, signing.new_skey("other.example/log"), "other.example/log")]
    for note in strangers:
        with pytest.raises(WitnessRefused, match="does not know the key") as refused:
            await cosign(peer.url, 0, [], note, timeout_ms=TIMEOUT_MS)
        assert refused.value.status == 403
    with pytest.raises(UnknownSigners):
        open_checkpoint(strangers[0], [LOG], witnesses=[signing.verifier(peer.vkey)])


async def test_a_witness_that_is_not_there_is_away() -> None:
    async with witness({}) as gone:
        pass
    with pytest.raises(WitnessAway):
        await cosign(gone.url, 0, [], _note(5), timeout_ms=TIMEOUT_MS)


@pytest.mark.parametrize("url", ["", "nowhere", "ftp://127.0.0.1/", "http://"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(WitnessRefused, match="address"):
        await cosign(url, 0, [], _note(5), timeout_ms=TIMEOUT_MS)


async def _answered(handler: Callable[[web.Request], Awaitable[web.Response]], timeout_ms: int = TIMEOUT_MS) -> str:
    app = web.Application()
    app.router.add_post("/add-checkpoint", handler)
    async with TestServer(app) as server:
        return await cosign(str(server.make_url("/")), 3, TREE.proof(3, 5), _note(5), timeout_ms=timeout_ms)


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (200, "", WitnessRefused),
        (200, "not a signature\n", WitnessRefused),
        (200, "— a AAAAAAE=", WitnessRefused),
        (200, "— a AAAAAAE=\n" * 10_000, WitnessRefused),
        (409, "many\n", WitnessRefused),
        (409, "007\n", WitnessRefused),
        (409, "7\n", WitnessConflict),
        (400, "", WitnessRefused),
        (404, "", WitnessRefused),
        (302, "", WitnessRefused),
        (418, "", WitnessRefused),
        (599, "", WitnessAway),
        (429, "", WitnessAway),
        (500, "", WitnessAway),
        (503, "", WitnessAway),
    ],
)
async def test_whatever_a_witness_answers_has_a_name(status: int, text: str, error: type[Exception]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers={"location": "http://127.0.0.1:1/"} if status == 302 else None)

    with pytest.raises(error):
        await _answered(answer)


async def test_a_witness_that_does_not_answer_in_time_is_away() -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    with pytest.raises(WitnessAway, match="TimeoutError"):
        await _answered(answer, timeout_ms=100)


async def test_a_request_is_spelled_as_the_protocol_says() -> None:
    bodies: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.text())
        return web.Response(text="— a AAAAAAE=\n")

    assert await _answered(answer) == "— a AAAAAAE=\n"
    head, _, note = bodies[0].partition("\n\n")
    assert head.split("\n")[0] == "old 3"
    assert len(head.split("\n")) == 1 + len(TREE.proof(3, 5))
    assert note == _note(5)
