"""The only place that writes events of the ledger into the archive: files first, and last the manifest that makes it exist.

No step depends on the one before it in this process: killed at any point, the next one writes the same names again, unless the
manifest is there. Then nothing is written any more.
"""

import asyncio
import hashlib
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa

from adapters.archive_store import ArchiveStore
from adapters.postgres import Executor
from audit.archive import parquet, sql
from audit.archive.copying import Copied
from audit.archive.manifest import (
    CHECKPOINTS,
    FORMAT,
    MANIFEST,
    LedgerDiffers,
    Manifest,
    Notes,
    Part,
    name_of,
    read,
    spelled,
)
from audit.archive.tie import Growing, first_unlike, frontier, tie
from orders.merkle import leaf_hash

_NOTES: Final = 10_000
_LONG_S: Final = 900
_ZSTD: Final = "zstd"


class Range(NamedTuple):
    """A range of time of the ledger, and the leaves in it."""

    from_at: datetime
    to_at: datetime
    first: int
    end: int
    first_occurred_at: datetime
    last_occurred_at: datetime


async def extent(db: Executor, from_at: datetime, to_at: datetime) -> Range | None:
    """What the ledger has of this range of time, or None where there is nothing. Raises `LedgerDiffers` where leaves are missing."""
    row = await db.fetchrow(sql.EXTENT, from_at, to_at, timeout=_LONG_S)
    if row is None or not row["events"]:
        return None
    if row["end"] - row["first"] != row["events"]:
        raise LedgerDiffers(
            f"the ledger has {row['events']} events from {from_at.isoformat()} to {to_at.isoformat()}, and there are"
            f" {row['end'] - row['first']} leaves, {row['first']} to {row['end']}: some were removed"
        )
    return Range(from_at, to_at, row["first"], row["end"], row["first_occurred_at"], row["last_occurred_at"])


async def write(db: Executor, store: ArchiveStore, due: Range) -> Manifest:
    """Put this range into the archive, and what it is into the ledger's table.

    Raises `LedgerDiffers` where an event is not the one that the log's tree has.
    """
    name = name_of(due.first, due.end)
    if await store.exists(f"{name}/{MANIFEST}"):  # all of it was written, and its row was not
        manifest = read(name, await store.get(f"{name}/{MANIFEST}"))
    else:
        manifest = await _written(db, store, name, due)
        await store.put(f"{name}/{MANIFEST}", spelled(manifest))
    await db.execute(
        sql.ADD, name, manifest.first_leaf, manifest.end_leaf, manifest.from_at, manifest.to_at, manifest.first_occurred_at,
        manifest.last_occurred_at, manifest.bytes, bytes.fromhex(manifest.root), msgspec.to_builtins(manifest),
    )  # fmt: skip
    return manifest


async def _written(db: Executor, store: ArchiveStore, name: str, due: Range) -> Manifest:
    """While one file is packed and stored, the next one's events are read: two at a time in memory, whatever the range."""
    grown, parts = Growing(await frontier(db, due.first)), []
    packing: asyncio.Task[Part] | None = None
    with tempfile.TemporaryDirectory(prefix="rushline-archive-") as folder:
        try:
            for number, first in enumerate(range(due.first, due.end, parquet.PART_LEAVES)):
                loaded = await _loaded(db, due, first, min(first + parquet.PART_LEAVES, due.end), grown)
                if packing is not None:
                    parts.append(await packing)
                packing = asyncio.create_task(_packed(store, name, Path(folder) / f"part-{number:05}.parquet", loaded))
            assert packing is not None
            parts.append(await packing)
        finally:
            await asyncio.gather(*(each for each in (packing,) if each is not None), return_exceptions=True)
    tree = await tie(db, grown)
    since = int(await db.fetchval(sql.ARCHIVED_CHECKPOINTS, due.first))
    notes, packed = await _notes(db, since, tree.size)
    await store.put(f"{name}/{CHECKPOINTS}", packed)
    return Manifest(
        format=FORMAT, name=name, first_leaf=due.first, end_leaf=due.end, events=due.end - due.first, from_at=due.from_at,
        to_at=due.to_at, first_occurred_at=due.first_occurred_at, last_occurred_at=due.last_occurred_at,
        bytes=sum(part.bytes for part in parts) + notes.bytes, root=grown.root().hex(), tree=tree, parts=parts, checkpoints=notes,
    )  # fmt: skip


async def _loaded(db: Executor, due: Range, first: int, end: int, grown: Growing) -> Copied:
    """The events of one file, each of them the one that the log's tree has."""
    found = Copied(first)
    for at in range(first, end, parquet.GROUP_ROWS):
        await found.read(db, due.from_at, due.to_at, at, min(at + parquet.GROUP_ROWS, end))
    if found.next_leaf != end:
        raise LedgerDiffers(f"leaf {found.next_leaf} of the ledger was removed meanwhile")
    hashes = await asyncio.to_thread(lambda: [leaf_hash(body) for body in found.bodies])
    other = await first_unlike(db, first, hashes)
    if other is not None:
        raise LedgerDiffers(f"leaf {other} of the ledger is not the event that the log's tree has there")
    await asyncio.to_thread(grown.extend, hashes)
    return found


async def _packed(store: ArchiveStore, name: str, path: Path, loaded: Copied) -> Part:
    first, end = loaded.first, loaded.next_leaf
    bounds = await asyncio.to_thread(parquet.write, path, first, loaded.sequenced, loaded.bodies)
    size, digest = await asyncio.to_thread(_digest, path)
    await store.put_file(f"{name}/{path.name}", path)
    await asyncio.to_thread(path.unlink)
    return Part(file=path.name, first_leaf=first, end_leaf=end, bytes=size, sha256=digest, **bounds._asdict())


def _digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


async def _notes(db: Executor, since: int, size: int) -> tuple[Notes, bytes]:
    """The checkpoints above one size up to another, packed."""
    sink, count = pa.BufferOutputStream(), 0
    with pa.CompressedOutputStream(sink, _ZSTD) as stream:
        while rows := await db.fetch(sql.CHECKPOINTS, since, size, _NOTES):
            stream.write("".join(f"{row['note']}\n" for row in rows).encode())
            since, count = rows[-1]["size"], count + len(rows)
    packed = sink.getvalue().to_pybytes()
    return Notes(file=CHECKPOINTS, count=count, bytes=len(packed), sha256=hashlib.sha256(packed).hexdigest()), packed


def unpacked(packed: bytes) -> bytes:
    """The notes of a file of checkpoints, each followed by an empty line. Raises `pyarrow`'s errors."""
    with pa.CompressedInputStream(pa.BufferReader(packed), _ZSTD) as stream:
        data: bytes = stream.read()
    return data
