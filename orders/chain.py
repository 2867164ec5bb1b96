"""The only place where the audit chains are hashed and checked. Standard library only: an auditor needs no more.

An event is a JSON object in canonical form (RFC 8785 on the subset that `canonical` accepts). Its `hash` covers every
other field, `prev_hash` among them, so an edited field, a swap, an insertion or a gap shows at a position.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

DOMAIN: Final = b"rushline/audit-event/v1\x00"
GENESIS: Final = hashlib.sha256(b"rushline/audit-genesis/v1\x00").hexdigest()
MAX_EVENT_BYTES: Final = 60 * 1024
MAX_DEPTH: Final = 8  # of lists and objects below the event itself
_HASH_KEY: Final = b'"hash":"'
_HASH_FIELD_BYTES: Final = len(_HASH_KEY) + 64 + 2  # with its closing quote and comma: `prev_hash` always follows
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
MAX_INTEGER: Final = 2**53 - 1  # RFC 8785 writes numbers as IEEE doubles: integers beyond this would change


class NotCanonicalError(ValueError):
    """A value has no single canonical spelling here: a float, an integer beyond 2^53-1, a key that is not ASCII, or too deep."""


def canonical(event: Mapping[str, Any]) -> bytes:
    """The one spelling of an event: keys sorted, no blanks, UTF-8. Raises `NotCanonicalError`, also above 60 KiB."""
    _check(event)
    return _fitting(_spelled(event))


def _spelled(event: Mapping[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(event).encode()
    except UnicodeEncodeError as error:
        raise NotCanonicalError("half of a surrogate pair has no UTF-8") from error


def _fitting(data: bytes) -> bytes:
    if len(data) > MAX_EVENT_BYTES:
        raise NotCanonicalError(f"an event may have {MAX_EVENT_BYTES} bytes, this one has {len(data)}")
    return data


def _check(value: object, depth: int = 0) -> None:
    match value:
        case None | bool() | str():
            return
        case int() if -MAX_INTEGER <= value <= MAX_INTEGER:
            return
        case dict() | Mapping() if (
            depth <= MAX_DEPTH
        ):  # `dict` first: asking for the abstract class costs more than the rest together
            for key, item in value.items():
                if not (isinstance(key, str) and key.isascii()):
                    raise NotCanonicalError(f"the key {key!r} is not ASCII text")
                _check(item, depth + 1)
        case list() | tuple() if depth <= MAX_DEPTH:
            for item in value:
                _check(item, depth + 1)
        case dict() | Mapping() | list() | tuple():
            raise NotCanonicalError(f"an event may be {MAX_DEPTH} levels deep below itself, and this goes on")
        case _:
            raise NotCanonicalError(f"{value!r} ({type(value).__name__}) has no canonical form here")


def event_hash(event: Mapping[str, Any]) -> str:
    """SHA-256, hex, over the domain and the canonical event without its own `hash`."""
    return hashlib.sha256(DOMAIN + canonical({k: v for k, v in event.items() if k != "hash"})).hexdigest()


def chain_of(event: Mapping[str, Any]) -> str:
    """The chain that an event is a link of: that of its order, unless it names another."""
    return str(event.get("chain") or event.get("order_id"))


def resealed(body: bytes) -> tuple[str, str]:
    """The hash that an event in canonical bytes claims, and the one that it has. Nothing is parsed.

    The last `"hash":"` of the bytes is the event's own: what stands in a string is escaped, and no field sorted after `hash`
    holds an object with such a key. Raises `NotCanonicalError` where there is none.
    """
    start = body.rfind(_HASH_KEY)
    end = start + _HASH_FIELD_BYTES
    if start < 0 or body[end - 2 : end] != b'",':
        raise NotCanonicalError("the event has no hash")
    return body[start + len(_HASH_KEY) : end - 2].decode("latin-1"), hashlib.sha256(
        DOMAIN + body[:start] + body[end:]
    ).hexdigest()


def seal(event: Mapping[str, Any], prev_hash: str) -> tuple[str, bytes]:
    """The event with its link to the one before and its own hash: that hash, and the canonical bytes of the whole.

    The fields before and after `hash` are spelled once, and put together without it (what is hashed) and with it.
    """
    linked = {**event, "prev_hash": prev_hash}
    _check(linked)
    before = _spelled({k: v for k, v in linked.items() if k < "hash"})[1:-1]
    after = _spelled({k: v for k, v in linked.items() if k > "hash"})[1:-1]  # never empty: `prev_hash` is among them
    lead = before + b"," if before else b""
    digest = hashlib.sha256(DOMAIN + b"{" + lead + after + b"}").hexdigest()
    return digest, _fitting(b'{%b"hash":"%b",%b}' % (lead, digest.encode(), after))


def first_broken(events: Iterable[Mapping[str, Any]]) -> int | None:
    """The position at which the record of one chain breaks first, or None where it is whole from position 1 on."""
    prev, expected = GENESIS, 1
    for event in events:
        if event.get("position") != expected or event.get("prev_hash") != prev or event.get("hash") != _hash_of(event):
            return expected
        prev, expected = str(event["hash"]), expected + 1
    return None


def _hash_of(event: Mapping[str, Any]) -> str | None:
    try:
        return event_hash(event)
    except NotCanonicalError:
        return None  # it cannot have been sealed like this
