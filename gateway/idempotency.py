"""The only place for `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): how it is read, and what a repeat gets."""

import hashlib
import re
from typing import Final

import http_sf
import msgspec

from adapters.postgres import Record
from gateway.problems import Refused

HEADER: Final = "Idempotency-Key"
_BARE: Final = re.compile(r"[A-Za-z0-9._~:/+=-]{1,255}")
_MAX: Final = 255
_CANONICAL: Final = msgspec.json.Encoder(order="deterministic")


class KeyMissing(Refused):
    """A request that changes money must carry a key."""

    slug = "idempotency-key-missing"


class KeyMalformed(Refused):
    """Neither a structured-field string nor a plain token."""

    slug = "idempotency-key-malformed"


class KeyInFlight(Refused):
    """The first request with this key has not been answered yet."""

    slug = "idempotency-in-flight"


class KeyReused(Refused):
    """The key belongs to another request."""

    slug = "idempotency-key-reused"


def read_key(values: list[str]) -> str:
    """The key: a structured-field string as the draft wants, or the bare token that many clients send.

    Raises `KeyMissing`, `KeyMalformed`.
    """
    if not values or not values[0].strip():
        raise KeyMissing(f"{HEADER} is missing")
    if len(values) > 1:
        raise KeyMalformed(f"{HEADER} was sent {len(values)} times")
    text = values[0].strip()
    if _BARE.fullmatch(text):
        return text
    try:
        item = http_sf.parse(text.encode("ascii"), tltype="item")
    except (http_sf.StructuredFieldError, UnicodeEncodeError, ValueError) as error:
        raise KeyMalformed(f"{HEADER} is no structured-field string") from error
    key = item[0] if isinstance(item, tuple) else item
    if type(key) is not str or not 0 < len(key) <= _MAX:
        raise KeyMalformed(f"{HEADER} must be a string of 1 to {_MAX} characters")
    return key


def fingerprint(body: msgspec.Struct) -> str:
    """What tells one request from another: its meaning, not its spelling."""
    return hashlib.sha256(_CANONICAL.encode(body)).hexdigest()


def stored_answer(row: Record, body_hash: str) -> bytes | None:
    """The answer that this key had before, or None where this request is the first. Raises `KeyReused`."""
    if row["body_hash"] is None:
        return None
    if row["body_hash"] != body_hash:
        raise KeyReused("this key belongs to a request with another body")
    answer: bytes = row["answer"]
    return answer
