"""The worked example of docs/audit-format.md, made from the code: three events in two chains, their tree, a checkpoint, a proof."""

import base64
import re
from typing import Any, Final

from orders import chain, signing
from orders.checkpoints import Checkpoint
from orders.merkle import leaf_hash, node_hash
from orders.note_keys import Key, Kind, key_id
from orders.notes import sign
from orders.privacy import PersonalKey, conceal
from orders.proofs import inclusion_proof, root_of
from orders.tiles import grow
from orders.tlog_proof import TlogProof
from tests.making import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "audit-format.md"
ORIGIN: Final = "rushline.example/audit"
ORDER: Final = "ord_01958f6e-0000-7000-8000-000000000001"
KEY: Final = PersonalKey("key_01958f6e-0000-7000-8000-000000000002", bytes(range(64)))
_BLOCK: Final = re.compile(r"(<!-- example: ([a-z-]+) -->\n```[a-z]*\n)(.*?)(```\n)", re.DOTALL)


def _step(position: int, **fields: Any) -> dict[str, Any]:
    event = {
        "v": 1, "event_id": f"aud_00000000-0000-8000-8000-00000000000{position}", "order_id": ORDER, "position": position,
        "reason": None, "details": {}, "service": "gateway", "correlation_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "causation_id": "req_1", "occurred_at": f"2026-03-14T18:30:0{position}+00:00",
    }  # fmt: skip
    return event | fields


def _events() -> list[tuple[str, bytes]]:
    personal = conceal(KEY, ORDER, 1, {"address": {"street": "Oudegracht 1", "city": "Utrecht"}})
    first = _step(
        1, fact_id="evt_1", action="order.placed", actor={"type": "customer", "id": "cus_1"}, previous_state=None, new_state="placed",
        details={"total": 3200, "items": [{"name": 'Tiramisù "2"', "quantity": 1}]}, personal=personal,
    )  # fmt: skip
    second = _step(
        2, fact_id="evt_2", action="payment.initiated", actor={"type": "system", "id": "payments"}, previous_state="placed",
        new_state="payment_processing", service="payments",
    )  # fmt: skip
    looked = _step(
        1, event_id="aud_00000000-0000-8000-8000-000000000009", chain=f"{ORDER}.looks", action="order.viewed",
        actor={"type": "support", "id": "anna"},
    )  # fmt: skip
    one = chain.seal(first, chain.GENESIS)
    return [one, chain.seal(second, one[0]), chain.seal(looked, chain.GENESIS)]


def _without_hash(body: bytes, digest: str) -> str:
    return body.replace(f'"hash":"{digest}",'.encode(), b"").decode()


def blocks() -> dict[str, str]:
    """What stands in the page's blocks, by name."""
    events = _events()
    seed = bytes(range(32))
    public = base64.b64decode(signing.vkey_of(_skey(seed)).split("+", 2)[2])[1:]
    leaves = [leaf_hash(body) for _, body in events]
    tiles = grow(0, {}, leaves)
    root = root_of(3, tiles)
    text = Checkpoint(ORIGIN, 3, root).text()
    note = sign(text, signing.signer(_skey(seed)))
    proofs = [str(TlogProof(leaf, tuple(inclusion_proof(leaf, 3, tiles)), note)) for leaf in range(3)]
    return {
        "hashed": _without_hash(events[0][1], events[0][0]) + "\n",
        "export": "".join(body.decode() + "\n" for _, body in events),
        "hashes": "".join(f"{digest}\n" for digest, _ in events),
        "genesis": chain.GENESIS + "\n",
        "tree": "".join(
            f"{name} {value.hex()}\n"
            for name, value in (
                ("leaf 0   ", leaves[0]), ("leaf 1   ", leaves[1]), ("leaf 2   ", leaves[2]),
                ("node 0-1 ", node_hash(leaves[0], leaves[1])), ("root of 3", root),
            )
        ),
        "key": f"seed       {seed.hex()}\npublic key {public.hex()}\nkey id     {key_id(ORIGIN, Kind.ED25519, public).hex()}\n",
        "vkey": signing.vkey_of(_skey(seed)) + "\n",
        "checkpoint": note,
        "proofs": "".join(proofs),
        "personal": f"key        {KEY.key.hex()}\nplaintext  {_plaintext()}\n",
    }  # fmt: skip


def _plaintext() -> str:
    return '{"address":{"city":"Utrecht","street":"Oudegracht 1"}}'


def _skey(seed: bytes) -> str:
    public = signing.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return Key(ORIGIN, key_id(ORIGIN, Kind.ED25519, public), Kind.ED25519, seed).skey()


def shown() -> dict[str, str]:
    """The blocks as the page has them."""
    return {name: text for _, name, text, _ in _BLOCK.findall(PAGE.read_text())}


def audit_format_page() -> str:
    """The page with its examples as the code makes them."""
    made = blocks()
    return _BLOCK.sub(lambda match: match[1] + made[match[2]] + match[4], PAGE.read_text())
