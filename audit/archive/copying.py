"""The only place that reads events out of the ledger in bulk: PostgreSQL's own binary copy, taken apart without a row in between.

An archive reads a hundred thousand events a second: a record of the driver for each would take half of that time.
"""

import struct
from datetime import datetime
from typing import Final

from adapters.postgres import Executor
from audit.archive import sql
from audit.archive.manifest import LedgerDiffers

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES: Final = len(_SIGNATURE) + 8  # flags, and an extension that has no bytes
_ROW: Final = struct.Struct(">hiqiqi")  # three fields: the leaf's eight bytes, the time's, how many the body has
_END_BYTES: Final = 2
_FIELDS: Final = (3, 8, 8)
_SINCE_1970: Final = 946_684_800_000_000  # PostgreSQL counts microseconds from 2000 on


class Copied:
    """Events that follow each other in the log, from leaf `first` to before `next_leaf`; times in microseconds since 1970."""

    def __init__(self, first: int) -> None:
        self.first = self.next_leaf = first
        self.sequenced: list[int] = []
        self.bodies: list[bytes] = []

    async def read(self, db: Executor, from_at: datetime, to_at: datetime, first: int, end: int) -> None:
        """Append the leaves from `first` to before `end` that the ledger has of this range of time."""
        chunks: list[bytes] = []

        async def take(chunk: bytes) -> None:
            chunks.append(bytes(chunk))

        await db.copy_from_query(sql.EVENTS_OF_RANGE, from_at, to_at, first, end, output=take, format="binary")
        self._take(b"".join(chunks))

    def _take(self, data: bytes) -> None:
        if not data.startswith(_SIGNATURE):
            raise LedgerDiffers("PostgreSQL copies in a form that is not known here")
        at, end = _HEADER_BYTES, len(data) - _END_BYTES
        unpack, leaf = _ROW.unpack_from, self.next_leaf
        while at < end:
            fields, index_bytes, index, time_bytes, time, size = unpack(data, at)
            if index != leaf or (fields, index_bytes, time_bytes) != _FIELDS:
                raise LedgerDiffers(f"leaf {leaf} is missing: the ledger goes on with leaf {index}")
            at += _ROW.size
            self.bodies.append(data[at : at + size])
            self.sequenced.append(time + _SINCE_1970)
            at += size
            leaf += 1
        self.next_leaf = leaf
