"""The only place that signs and verifies with Ed25519: notes by a log (C2SP signed-note), checkpoints by a witness (tlog-cosignature)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orders.note_keys import Key, KeyMalformed, Kind, checked_name, key_id, parse_skey, parse_vkey
from orders.notes import Signature, Signer, Verifier

_TIME_BYTES: Final = 8
_LATEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Keyed:
    """What every signer and verifier says of its key. A signer's holds the seed."""

    key: Key

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def key_id(self) -> bytes:
        return self.key.key_id


@dataclass(frozen=True, slots=True)
class Ed25519Verifier(_Keyed):
    """Verifies what `Ed25519Signer` signs: the note's text."""

    def verify(self, text: bytes, signature: bytes) -> bool:
        return _is_signed(self.key.material, signature, text)


@dataclass(frozen=True, slots=True)
class CosignatureVerifier(_Keyed):
    """Verifies a witness's statement that at a time this checkpoint was the largest that it had seen."""

    def verify(self, text: bytes, signature: bytes) -> bool:
        seconds = int.from_bytes(signature[:_TIME_BYTES], "big")
        return seconds <= _LATEST and _is_signed(self.key.material, signature[_TIME_BYTES:], _cosigned(text, seconds))


@dataclass(frozen=True, slots=True)
class Ed25519Signer(_Keyed):
    """Signs a note's text. `key` holds the seed."""

    def sign(self, text: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(self.key.material).sign(text)


@dataclass(frozen=True, slots=True)
class CosignatureSigner(_Keyed):
    """Signs a checkpoint as a witness does, with the time that the clock gives."""

    clock: Callable[[], datetime]

    def sign(self, text: bytes) -> bytes:
        seconds = int(self.clock().timestamp())
        signature = Ed25519PrivateKey.from_private_bytes(self.key.material).sign(_cosigned(text, seconds))
        return seconds.to_bytes(_TIME_BYTES, "big") + signature


def verifier(vkey: str) -> Verifier:
    """What verifies with a published key, of a log or of a witness. Raises `KeyMalformed`."""
    key = parse_vkey(vkey)
    match key.kind:
        case Kind.ED25519:
            return Ed25519Verifier(key)
        case Kind.COSIGNATURE:
            return CosignatureVerifier(key)
        case other:
            raise KeyMalformed(
                f"the key of {key.name} is of type 0x{other:02x}; Ed25519 (0x01) and its cosignatures (0x04) are known here"
            )


def _now() -> datetime:
    return datetime.now(UTC)


def signer(skey: str, clock: Callable[[], datetime] = _now) -> Signer:
    """What signs with a private key, as a log or as a witness. Raises `KeyMalformed`."""
    key = parse_skey(skey)
    if key.kind not in set(Kind):
        raise KeyMalformed(f"the signer's key of {key.name} is of type 0x{key.kind:02x}, which is not known here")
    if key.key_id != key_id(key.name, key.kind, _public(key.material)):
        raise KeyMalformed(
            f"the id {key.key_id.hex()} is not that of the signer's key of {key.name}: one of the two was changed"
        )
    return Ed25519Signer(key) if key.kind == Kind.ED25519 else CosignatureSigner(key, clock)


def vkey_of(skey: str) -> str:
    """The verifier's key that belongs to a signer's. Raises `KeyMalformed`."""
    key = parse_skey(skey)
    return Key.verifying(key.name, key.kind, _public(key.material)).vkey()


def new_skey(name: str, kind: Kind = Kind.ED25519) -> str:
    """A new private key, in the form that Go's note tools read too."""
    seed = Ed25519PrivateKey.generate().private_bytes_raw()
    return Key(checked_name(name), key_id(name, kind, _public(seed)), kind, seed).skey()


def cosigned_at(signature: Signature) -> datetime:
    """When a witness says that it saw the checkpoint. Ask only of a verified cosignature."""
    return datetime.fromtimestamp(int.from_bytes(signature.value[:_TIME_BYTES], "big"), UTC)


def _cosigned(text: bytes, seconds: int) -> bytes:
    return b"cosignature/v1\ntime %d\n%b" % (seconds, text)


def _public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
