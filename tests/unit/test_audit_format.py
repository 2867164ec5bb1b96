"""docs/audit-format.md is enough: a verifier that uses nothing but what stands there verifies its example, byte for byte."""

import base64
import hashlib
import json
import random

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from orders.merkle import leaf_hash as leaf_of
from orders.proofs import inclusion_proof, root_of
from orders.signing import Ed25519PublicKey
from orders.tiles import grow
from tests.audit_example import shown

PAGE = shown()
EVENTS = [line.encode() for line in PAGE["export"].splitlines()]
NAMES = ("export", "hashed", "hashes", "genesis", "tree", "checkpoint", "vkey", "key", "proofs", "personal")


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return _sha(b"\x01" + left + right)


def _proven(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> bool:
    """The page's algorithm, line by line."""
    found, a, b = leaf, index, size - 1
    for p in proof:
        if b == 0:
            return False
        if a % 2 == 1 or a == b:
            found = _node(p, found)
            while a % 2 == 0 and a != 0:
                a, b = a // 2, b // 2
        else:
            found = _node(found, p)
        a, b = a // 2, b // 2
    return b == 0 and found == root


def _hex(block: str) -> dict[str, str]:
    return {line.rsplit(" ", 1)[0].strip(): line.rsplit(" ", 1)[1] for line in PAGE[block].splitlines()}


def test_the_page_has_every_example() -> None:
    assert set(NAMES) == set(PAGE)
    assert all(PAGE.values())


def test_an_events_hash_is_that_of_the_line_without_it_behind_the_domain() -> None:
    hashes = PAGE["hashes"].split()
    for line, expected in zip(EVENTS, hashes, strict=True):
        field = f'"hash":"{expected}",'.encode()
        at = line.rfind(field)
        assert at > 0
        assert hashlib.sha256(b"rushline/audit-event/v1\x00" + line[:at] + line[at + len(field) :]).hexdigest() == expected
    assert PAGE["hashed"].encode() == EVENTS[0].replace(f'"hash":"{hashes[0]}",'.encode(), b"") + b"\n"


def test_each_chain_begins_with_the_genesis_and_goes_on_with_the_hash_before() -> None:
    genesis = hashlib.sha256(b"rushline/audit-genesis/v1\x00").hexdigest()
    assert PAGE["genesis"].strip() == genesis
    heads: dict[str, tuple[int, str]] = {}
    for line in EVENTS:
        event = json.loads(line)
        name = event.get("chain") or event["order_id"]
        position, head = heads.get(name, (0, genesis))
        assert (event["position"], event["prev_hash"]) == (position + 1, head)
        heads[name] = (event["position"], event["hash"])
    assert len(heads) == 2


def test_the_tree_is_the_one_that_the_checkpoint_names() -> None:
    leaves = [_sha(b"\x00" + line) for line in EVENTS]
    both = _node(leaves[0], leaves[1])
    root = _node(both, leaves[2])
    assert list(_hex("tree").values()) == [each.hex() for each in (*leaves, both, root)]
    assert PAGE["checkpoint"].split("\n")[:3] == ["rushline.example/audit", "3", base64.b64encode(root).decode()]


def test_the_checkpoint_is_signed_by_the_key() -> None:
    name, key_id, encoded = PAGE["vkey"].strip().split("+", 2)
    kind, public = base64.b64decode(encoded)[:1], base64.b64decode(encoded)[1:]
    assert (kind, public.hex(), key_id) == (b"\x01", _hex("key")["public key"], _hex("key")["key id"])
    assert _sha(name.encode() + b"\n" + b"\x01" + public)[:4].hex() == key_id
    text, _, signature = PAGE["checkpoint"].partition("\n\n")
    dash, signer, value = signature.rstrip("\n").split(" ")
    assert (dash, signer, base64.b64decode(value)[:4].hex()) == ("—", name, key_id)
    verifier = Ed25519PublicKey.from_public_bytes(public)
    verifier.verify(base64.b64decode(value)[4:], (text + "\n").encode())
    with pytest.raises(InvalidSignature):
        verifier.verify(base64.b64decode(value)[4:], text.encode())


def test_the_proofs_hold_by_the_pages_algorithm_and_for_their_own_leaf_alone() -> None:
    header = "c2sp.org/tlog-proof@v1\n"
    proofs = PAGE["proofs"].split(header)[1:]
    root = base64.b64decode(PAGE["checkpoint"].split("\n")[2])
    for number, proof in enumerate(proofs):
        head, _, note = proof.partition("\n\n")
        index, *hashes = head.split("\n")
        assert (index, note) == (f"index {number}", PAGE["checkpoint"])
        for other, line in enumerate(EVENTS):
            held = _proven(_sha(b"\x00" + line), number, 3, [base64.b64decode(each) for each in hashes], root)
            assert held == (other == number)


@given(st.integers(1, 600), st.randoms(use_true_random=False))
def test_the_pages_algorithm_is_that_of_rfc_6962(size: int, chance: random.Random) -> None:
    tiles = grow(0, {}, [leaf_of(b"%d" % number) for number in range(size)])
    index = chance.randrange(size)
    proof, root = inclusion_proof(index, size, tiles), root_of(size, tiles)
    assert _proven(leaf_of(b"%d" % index), index, size, proof, root)
    assert not _proven(leaf_of(b"other"), index, size, proof, root)
    if proof:
        assert not _proven(leaf_of(b"%d" % index), index, size, proof[:-1], root)
    assert not _proven(leaf_of(b"%d" % index), index, size, [*proof, root], root)


def test_personal_data_is_read_with_its_key_at_its_place_and_nowhere_else() -> None:
    given_key, plaintext = PAGE["personal"].split("\n")[:2]
    event = json.loads(EVENTS[0])
    key, data = bytes.fromhex(given_key.split()[1]), base64.b64decode(event["personal"]["data"])
    place = [b"rushline/personal/v1", event["personal"]["key_id"].encode(), event["order_id"].encode(), b"1"]
    assert AESSIV(key).decrypt(data, place).decode() == plaintext.split(None, 1)[1]
    with pytest.raises(InvalidTag):
        AESSIV(key).decrypt(data, [*place[:3], b"2"])
