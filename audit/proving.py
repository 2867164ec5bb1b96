"""The only place that proves an event to be in the log, to whoever has the log's key and nothing else."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable
from audit import proving_sql as sql
from audit import tree
from audit.signing import newest
from orders.checkpoints import Checkpoint
from orders.errors import NotFound, RetryLater
from orders.notes import parse_note
from orders.proofs import inclusion_proof, tiles_for_inclusion
from orders.tlog_proof import TlogProof

_TILES_KEPT: Final = 1_024  # 8 MiB


class Leaf(msgspec.Struct, frozen=True):
    """An event's place in the log, and its bytes."""

    index: int
    body: bytes


Find = Callable[[Connection, str], Awaitable[Leaf | None]]


class NoSuchEvent(NotFound):
    """No event of the log has this id."""

    slug = "no-such-event"


class NotYetSequenced(RetryLater):
    """The event is stored, and no checkpoint covers it yet."""

    slug = "not-yet-sequenced"


async def find(db: Connection, event_id: str) -> Leaf | None:
    """The event as PostgreSQL has it; those that were archived are not among them. Raises `DatabaseUnavailable`."""
    try:
        row = await db.fetchrow(sql.FIND, event_id)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the event cannot be read: {error}") from error
    return Leaf(row["leaf_index"], row["body"]) if row else None


async def prove(db: Connection, event_id: str, *, find: Find = find, every_s: float = 2.0) -> str:
    """The proof (C2SP tlog-proof) for an event, against the newest checkpoint.

    Raises `NoSuchEvent`; `NotYetSequenced` where no checkpoint covers it; `TileUnusable`, `DatabaseUnavailable`. `every_s`: how
    often the log is signed.
    """
    leaf = await find(db, event_id)
    if leaf is None:
        raise NoSuchEvent(f"no event of the log has the id {event_id[:80]}")
    prover = await Prover.newest(db, every_s)
    return await prover.proof(leaf.index)


async def consistency(db: Connection, old_size: int, new_size: int) -> list[bytes]:
    """What shows that the log of the first size is the beginning of that of the second. Raises `WrongIndex`, `TileUnusable`."""
    return await tree.consistency(db, old_size, new_size)


class Prover:
    """Proves leaf after leaf against one checkpoint. Neighbours share their tiles."""

    def __init__(self, db: Connection, note: str | None, every_s: float) -> None:
        self._db, self.note, self._every_s = db, note or "", every_s
        self.size = Checkpoint.parse(parse_note(note).text).size if note else 0
        self._tiles: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    @classmethod
    async def newest(cls, db: Connection, every_s: float = 2.0) -> "Prover":
        """Against the newest checkpoint that is served."""
        return cls(db, await newest(db), every_s)

    async def proof(self, index: int) -> str:
        """Raises `NotYetSequenced`."""
        if index >= self.size:
            raise NotYetSequenced(
                f"leaf {index} is in no checkpoint yet: the newest covers {self.size} leaves. The next is usually signed within "
                f"{self._every_s:g} s; ask again then"
            )
        needed = tiles_for_inclusion(index, self.size)
        missing = needed - self._tiles.keys()
        self._tiles.update(await tree.tiles(self._db, missing) if missing else {})
        made = TlogProof(index, tuple(inclusion_proof(index, self.size, self._tiles)), self.note)
        while len(self._tiles) > _TILES_KEPT:
            self._tiles.popitem(last=False)
        return str(made)
