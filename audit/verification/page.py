"""The only place that checks a page of the log by itself: what each event says and hashes to, and the pieces of chains in it.

Where a piece begins within its chain, and whether it fits there, is for whoever has the pages before it.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from audit.verification.findings import Finding, Kind
from orders import chain
from orders.merkle import HASH_BYTES, Frontier
from orders.tiles import WIDTH

_SEPARATOR: Final = "\x1f"
_COLUMNS: Final = ("chain", "position", "event_id", "action", "actor_type", "actor_id", "new_state")
_HASH_KEY: Final = b'"hash":"'
_HASH_FIELD: Final = len(_HASH_KEY) + 64 + 2


Row = tuple[int, str | None, bytes]  # leaf, its columns as one text, its event; a Record of `verify_sql.PAGE`


class _Actor(msgspec.Struct, frozen=True, gc=False):
    id: str
    type: str


class Said(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an event says of itself, as far as the ledger's columns and its chain repeat it. Sorted as the bytes are: that is quicker."""

    action: str
    actor: _Actor
    chain: str | None = None
    event_id: str
    hash: str
    new_state: str | None = None
    occurred_at: str
    order_id: str | None = None
    position: int
    prev_hash: str


class Piece(msgspec.Struct, array_like=True, gc=False):
    """Events of one chain that follow each other within a page: where they begin and end."""

    chain: str
    leaf: int
    event_id: str
    first: int
    prev_hash: str
    last: int
    hash: str


class Page(msgspec.Struct, frozen=True, array_like=True):
    """What came of a page. `leaves`: the hashes, one behind the other; `roots`: those of its whole tiles, by their index."""

    begin: int
    end: int
    events: int
    numbers: list[int]  # the leaf of each event; empty where they are just those from begin to end
    leaves: bytes
    roots: dict[int, bytes]
    pieces: list[Piece]
    findings: list[Finding]


read: Final = msgspec.json.Decoder(Said).decode


def check_page(begin: int, end: int, rows: Sequence[Row], latest: datetime) -> Page:
    """Check the rows of the leaves from `begin` to before `end`."""
    findings: list[Finding] = []
    leaves, pieces = _walk(rows, latest, findings)
    numbers = [row[0] for row in rows]
    straight = numbers == list(range(begin, end))
    return Page(
        begin, end, len(rows), [] if straight else numbers, b"".join(leaves), _tiles(begin, leaves) if straight else {}, pieces,
        findings,
    )  # fmt: skip


def _walk(rows: Sequence[Row], latest: datetime, findings: list[Finding]) -> tuple[list[bytes], list[Piece]]:
    """One turn for each event, and as little in it as can be: this is what verifying takes its time for."""
    sha256, domain, decode, latest_text = hashlib.sha256, chain.DOMAIN, read, latest.astimezone(UTC).isoformat()
    leaves: list[bytes] = []
    pieces: list[Piece] = []
    newest: dict[str, Piece] = {}
    for leaf, columns, body in rows:
        leaves.append(sha256(b"\0" + body).digest())
        try:
            said = decode(body)
        except (msgspec.MsgspecError, ValueError) as error:
            findings.append(_unreadable(leaf, columns, body, error))
            continue
        start = body.rfind(_HASH_KEY)
        digest = sha256(domain + body[:start] + body[start + _HASH_FIELD :]).hexdigest()
        name, position, actor, at = said.chain or said.order_id or "", said.position, said.actor, said.occurred_at
        meant = (
            f"{name}\x1f{position}\x1f{said.event_id}\x1f{said.action}\x1f{actor.type}\x1f{actor.id}\x1f"
            f'{said.new_state or ""}\x1f"{at}"'
        )
        if digest != said.hash or (columns is not None and columns != meant) or at > latest_text:
            findings += _odd(leaf, columns, said, digest, latest)
        piece = newest.get(name)
        if piece is not None and piece.hash == said.prev_hash and piece.last + 1 == position:
            piece.last, piece.hash = position, said.hash
        else:
            piece = newest[name] = Piece(name, leaf, said.event_id, position, said.prev_hash, position, said.hash)
            pieces.append(piece)
    return leaves, pieces


def _tiles(begin: int, leaves: Sequence[bytes]) -> dict[int, bytes]:
    roots = {}
    first = -begin % WIDTH
    for at in range(first, len(leaves) - WIDTH + 1, WIDTH):
        tile = Frontier()
        tile.extend(leaves[at : at + WIDTH])
        roots[(begin + at) // WIDTH] = tile.root()
    return roots


def _odd(leaf: int, columns: str | None, said: Said, digest: str, latest: datetime) -> list[Finding]:
    """What is wrong with this one; nothing where its time is only spelled in another way than the column's."""
    name = said.chain or said.order_id or ""
    where: dict[str, Any] = {"leaf": leaf, "chain": name, "position": said.position, "event_id": said.event_id}
    place = f"leaf {leaf}, {name} at position {said.position}"
    found = []
    if digest != said.hash:
        sentence = f"Event {said.event_id} ({place}) was edited: its hash is not the hash of its contents."
        found.append(Finding(kind=Kind.EDITED, sentence=sentence, **where, said=said.hash, found=digest))
    at = _time(said.occurred_at)
    for column, one, other in _pairs(columns, said, name, at) if columns is not None else ():
        if one != other:
            sentence = f"Leaf {leaf}: the column {column} says {one}, and its event {said.event_id} says {other}."
            found.append(Finding(kind=Kind.COLUMN, sentence=sentence, **where, said=other, found=one, source=column))
    if at is not None and at > latest:
        sentence = f"Event {said.event_id} ({place}) is from the future: {said.occurred_at}."
        found.append(Finding(kind=Kind.FUTURE, sentence=sentence, **where, found=said.occurred_at))
    return found


def _pairs(columns: str, said: Said, name: str, at: datetime | None) -> list[tuple[str, str, str]]:
    """Each column: its name, what it says, what the event says."""
    *there, there_at = columns.split(_SEPARATOR)
    here = [name, str(said.position), said.event_id, said.action, said.actor.type, said.actor.id, said.new_state or ""]
    pairs = [*zip(_COLUMNS, there, here, strict=False)]
    if at is None or at != _time(there_at.strip('"')):
        pairs.append(("occurred_at", there_at.strip('"'), said.occurred_at))
    return pairs


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


def _unreadable(leaf: int, columns: str | None, body: bytes, error: Exception) -> Finding:
    name, position, event_id, *_ = columns.split(_SEPARATOR) if columns is not None else ("the archive", "0", None)
    long = f"it has {len(body)} bytes, and an event at most {chain.MAX_EVENT_BYTES}"
    why = long if len(body) > chain.MAX_EVENT_BYTES else str(error)
    return Finding(
        kind=Kind.UNREADABLE, sentence=f"Leaf {leaf} ({name} at position {position}) holds no audit event: {why}.", leaf=leaf,
        chain=name, position=int(position), event_id=event_id,
    )  # fmt: skip


def joined(one: Page, other: Page) -> Page:
    """Two pages beside each other as one. A tile that lies in both is hashed again by whoever needs its root."""
    straight = not (one.numbers or other.numbers)
    numbers = (
        [] if straight else [*(one.numbers or range(one.begin, one.end)), *(other.numbers or range(other.begin, other.end))]
    )
    return Page(
        one.begin, other.end, one.events + other.events, numbers, one.leaves + other.leaves, one.roots | other.roots,
        one.pieces + other.pieces, one.findings + other.findings,
    )  # fmt: skip


def leaf_hashes(page: Page) -> list[bytes]:
    return [page.leaves[at : at + HASH_BYTES] for at in range(0, len(page.leaves), HASH_BYTES)]
