"""The only place that reads and writes the keys of signed notes (C2SP signed-note), and says what a key may be called.

Standard library only: what signs and verifies with them is in `orders.signing`.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Self

from orders.errors import NoteRefused

KEY_BYTES: Final = 32
ID_BYTES: Final = 4
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")
_PRIVATE: Final = "PRIVATE+KEY+"
_NAME: Final = re.compile(r"[^\s\x00-\x1f+\ud800-\udfff]+")
_SHOWN: Final = 80


class Kind(IntEnum):
    """The signature types of signed-note that are used here; other keys' signatures are unknown, and passed over."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


class KeyMalformed(NoteRefused):
    """A verifier's or signer's key cannot be read."""

    slug = "key-malformed"


@dataclass(frozen=True, slots=True)
class Key:
    """A key's name and material: a public key in a verifier's, the seed in a signer's. `key_id` is always the public key's."""

    name: str
    key_id: bytes
    kind: int
    material: bytes = field(repr=False)

    @classmethod
    def verifying(cls, name: str, kind: int, public: bytes) -> Self:
        return cls(checked_name(name), key_id(name, kind, public), kind, public)

    def vkey(self) -> str:
        """As it is published: `<name>+<id>+<base64>`."""
        return f"{self.name}+{self.key_id.hex()}+{encoded(bytes([self.kind]) + self.material)}"

    def skey(self) -> str:
        """As Go's `note.NewSigner` takes it: the same behind `PRIVATE+KEY+`."""
        return _PRIVATE + self.vkey()


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """The four bytes by which a signature line says which key made it."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:ID_BYTES]


def checked_name(name: str) -> str:
    """A key's name, where it is one. Raises `KeyMalformed`."""
    if not is_name(name):
        raise KeyMalformed(f"a key's name must not be empty nor have blanks, control characters or '+': {name[:_SHOWN]!r}")
    return name


def is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def parse_vkey(text: str) -> Key:
    """A verifier's key of any type. Raises `KeyMalformed`."""
    key = _parse_key(text, "a verifier's key")
    if key.kind in set(Kind) and key.key_id != key_id(key.name, key.kind, key.material):  # others may count theirs otherwise
        raise KeyMalformed(f"the id {key.key_id.hex()} is not that of the key of {key.name}: one of the two was changed")
    return key


def parse_skey(text: str) -> Key:
    """A signer's key. Whether its id is right only the public key shows: `orders.signing` looks. Raises `KeyMalformed`."""
    if not text.startswith(_PRIVATE):
        raise KeyMalformed(f"a signer's key begins with {_PRIVATE}")
    return _parse_key(text.removeprefix(_PRIVATE), "a signer's key")


def _parse_key(text: str, what: str) -> Key:
    """The message never holds the key: it may be a private one."""
    parts = text.split("+", 2)
    if len(parts) < 3:  # noqa: PLR2004  # name, id, material
        raise KeyMalformed(f"{what} is <name>+<id>+<base64>, this has {len(parts)} of the three parts")
    name, digits, material = parts
    checked_name(name)
    if not _KEY_ID.fullmatch(digits):
        raise KeyMalformed(f"the id of {what} has eight hexadecimal digits in lower case")
    data = decoded(material)
    if data is None or not data:
        raise KeyMalformed(f"{what} of {name} is not base64")
    if data[0] in set(Kind) and len(data) != 1 + KEY_BYTES:
        raise KeyMalformed(f"{what} of {name} has {len(data) - 1} bytes, an Ed25519 key has {KEY_BYTES}")
    return Key(name, bytes.fromhex(digits), data[0], data[1:])


def encoded(data: bytes) -> str:
    """Base64 as all of these formats use it."""
    return base64.b64encode(data).decode()


def decoded(text: str) -> bytes | None:
    """The bytes, or None where this is not the one spelling of any."""
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeError):
        return None
    return data if encoded(data) == text else None
