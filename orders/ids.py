"""The only place where identifiers are made: UUIDv7 for things, UUIDv8 for what follows from a cause (RFC 9562)."""

import hashlib
import os
import re
import time
from typing import Final
from uuid import UUID

PREFIXES: Final = (
    "ord",
    "cus",
    "rst",
    "drv",
    "itm",
    "evt",
    "aud",
    "cmd",
    "dsp",
    "sup",
    "let",
    "rpl",
    "edt",
    "rul",
    "key",
    "evi",
)
_VERSION_7: Final = 0x7000
_VARIANT: Final = 0x8000_0000_0000_0000
_VARIANT_DIGITS: Final = "89ab"
_ID: Final = re.compile(r"([a-z]{3})_[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def new_id(prefix: str, unix_ms: int | None = None, random: bytes | None = None) -> str:
    """A new identifier: 48 bits of milliseconds, then 74 random bits (RFC 9562, section 5.7)."""
    ms = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    bits = int.from_bytes(random or os.urandom(10), "big")
    high = (ms << 16) | _VERSION_7 | (bits >> 68 & 0x0FFF)
    low = _VARIANT | (bits & 0x3FFF_FFFF_FFFF_FFFF)
    return f"{prefix}_{UUID(int=high << 64 | low)}"


def derived_id(prefix: str, *cause: str | int) -> str:
    """The identifier that follows from its cause: the same cause makes the same id, so that a replay is a no-op.

    UUIDv8 (RFC 9562, section 5.8) over SHA-256 of the parts, each with its length so that no two causes run together.
    """
    parts = "".join(f"{len(text)}:{text}" for text in map(str, cause))
    digits = hashlib.sha256(f"rushline/id/{prefix}/{parts}".encode()).hexdigest()
    variant = _VARIANT_DIGITS[int(digits[16], 16) & 0b11]
    return f"{prefix}_{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def is_id(text: str, prefix: str) -> bool:
    """Whether the text is an identifier with this prefix, in the one spelling we use."""
    match = _ID.fullmatch(text)
    return match is not None and match[1] == prefix
