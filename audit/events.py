"""The only place that reads an audit event from its bytes, and says whether they are what they claim to be.

The quick encoder's bytes equal RFC 8785's on the values that events may have (no floats, integers to 2^53-1, ASCII keys); tests
hold the two together. What might lie outside is checked value by value.
"""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec

from orders import chain
from orders.errors import BadMessage

SCHEMA_VERSION: Final = 1
AHEAD: Final = timedelta(minutes=5)  # how far another machine's clock may be ahead of ours
LOOKS: Final = ".looks"  # the chain of what was read of an order
_HASHES: Final = re.compile(r"[0-9a-f]{128}")
_SORTED: Final = msgspec.json.Encoder(order="sorted")


class _Actor(msgspec.Struct, frozen=True):
    type: str
    id: str


class _Fields(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger is searched by, checked; the event itself stays bytes, because its hash covers all of it."""

    event_id: str
    order_id: str | None = None
    chain: str | None = None
    position: int
    action: str
    actor: _Actor
    new_state: str | None = None
    occurred_at: datetime
    prev_hash: str
    hash: str


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An audit event as it came, with what its row needs. `whole`: the hash in it is the hash of it."""

    event_id: str
    chain: str
    position: int
    action: str
    actor_type: str
    actor_id: str
    new_state: str | None
    occurred_at: datetime
    prev_hash: str
    hash: str
    body: bytes
    whole: bool


def _plain() -> Any:
    """The type of values that have a canonical form, as deep as events go: checked by the decoder, not value by value."""
    number = Annotated[int, msgspec.Meta(ge=-chain.MAX_INTEGER, le=chain.MAX_INTEGER)]
    kind: Any = None | bool | str | number
    for _ in range(chain.MAX_DEPTH):
        kind = None | bool | str | number | list[kind] | dict[str, kind]
    return dict[str, kind]


_RAW: Final[msgspec.json.Decoder[dict[str, Any]]] = msgspec.json.Decoder(_plain())
_FIELDS: Final = msgspec.json.Decoder(_Fields)


def read_event(version: int, body: bytes) -> Event:
    """The event in these bytes. Raises `BadMessage` for a newer schema, or bytes that are no event.

    An event whose hash is not that of its contents, or that is not spelled canonically, is returned with `whole` false: it is
    evidence, not noise.
    """
    if version > SCHEMA_VERSION:
        raise BadMessage(f"the audit event has schema version {version}; this process reads up to {SCHEMA_VERSION}")
    if len(body) > chain.MAX_EVENT_BYTES:
        raise BadMessage(f"an audit event may have {chain.MAX_EVENT_BYTES} bytes, this one has {len(body)}")
    try:
        raw = _RAW.decode(body)
        fields = _FIELDS.decode(body)
        claimed, computed = chain.resealed(body)
        whole = claimed == computed == fields.hash and _is_canonical(raw, body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadMessage(f"not an audit event: {error}") from error
    of_chain = fields.chain or fields.order_id
    if not of_chain or not _HASHES.fullmatch(fields.prev_hash + fields.hash):
        raise BadMessage("not an audit event: it belongs to no chain, or its hashes are none")
    if fields.occurred_at.tzinfo is None:
        raise BadMessage("not an audit event: its time names no zone")
    return Event(
        event_id=fields.event_id, chain=of_chain, position=fields.position, action=fields.action,
        actor_type=fields.actor.type, actor_id=fields.actor.id, new_state=fields.new_state, occurred_at=fields.occurred_at,
        prev_hash=fields.prev_hash, hash=fields.hash, body=body, whole=whole,
    )  # fmt: skip


def _is_canonical(raw: dict[str, Any], body: bytes) -> bool:
    if _SORTED.encode(raw) != body:
        return False
    return body.isascii() or _has_ascii_keys(raw)  # RFC 8785 sorts others by their UTF-16


def _has_ascii_keys(value: object) -> bool:
    if isinstance(value, dict):
        return all(key.isascii() and _has_ascii_keys(item) for key, item in value.items())
    return not isinstance(value, list) or all(map(_has_ascii_keys, value))
