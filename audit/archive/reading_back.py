"""The only place that reads an archive back, all of it, and says whether it is what was written and what the log has."""

import asyncio
from typing import Any

import pyarrow as pa

from adapters.archive_store import ArchiveStore
from adapters.postgres import Executor
from audit.archive import parquet
from audit.archive.manifest import (
    MANIFEST,
    FileAltered,
    LedgerDiffers,
    Manifest,
    Part,
    check_file,
    compare,
    of_file,
    read,
)
from audit.archive.tie import check_tie, first_unlike, start
from audit.archive.writing import unpacked
from orders.merkle import leaf_hash


async def manifest_of(store: ArchiveStore, name: str, known: Manifest | None = None) -> Manifest:
    """An archive's manifest as it is there. Raises `FileMissing`, `ManifestAltered` where it is not what was written."""
    path = f"{name}/{MANIFEST}"
    with of_file(path):
        data = await store.get(path)
    found = read(name, data)
    if known is not None:
        compare(found, known)
    return found


async def verify(db: Executor, store: ArchiveStore, known: Manifest) -> int:
    """How many events it holds, each of them that of the log.

    Raises `ArchiveBroken` for what is wrong with the archive, `LedgerDiffers` where the whole archive is not what the tree has.
    """
    manifest = await manifest_of(store, known.name, known)
    grown, count = start(manifest), 0
    for part in manifest.parts:
        hashes = await part_hashes(store, manifest, part)
        other = await first_unlike(db, part.first_leaf, hashes)
        if other is not None:
            raise LedgerDiffers(f"leaf {other} of {manifest.path(part.file)} is not the event that the log's tree has there")
        await asyncio.to_thread(grown.extend, hashes)
        count += len(hashes)
    check_tie(manifest, grown)
    await check_notes(store, manifest)
    return count


async def part_hashes(store: ArchiveStore, manifest: Manifest, part: Part) -> list[bytes]:
    """The leaf hashes of a file's events, in the log's order. Raises `ArchiveBroken`."""
    path = manifest.path(part.file)
    with of_file(path):
        data = await store.get(path)
    check_file(path, data, part.bytes, part.sha256)
    with of_file(path):
        return await asyncio.to_thread(_hashes, path, data, part)


def _hashes(path: str, data: bytes, part: Part) -> list[bytes]:
    found: list[bytes | None] = [None] * (part.end_leaf - part.first_leaf)
    file: Any = parquet.open_file(pa.BufferReader(data))
    for leaves, bodies, same in parquet.proven_columns(file):
        if not same:
            raise FileAltered(path, "its columns are not those of its events")
        for leaf, body in zip(leaves, bodies, strict=True):
            if not part.first_leaf <= leaf < part.end_leaf or found[leaf - part.first_leaf] is not None:
                raise FileAltered(path, f"leaf {leaf} is in it twice, or is none of {part.first_leaf} to {part.end_leaf}")
            found[leaf - part.first_leaf] = leaf_hash(body)
    whole = [each for each in found if each is not None]
    if len(whole) != len(found):
        raise FileAltered(path, f"it has {len(whole)} of the {len(found)} leaves {part.first_leaf} to {part.end_leaf}")
    return whole


async def check_notes(store: ArchiveStore, manifest: Manifest) -> bytes:
    """The checkpoints that came with an archive. Raises `ArchiveBroken`."""
    path, notes = manifest.path(manifest.checkpoints.file), manifest.checkpoints
    with of_file(path):
        data = await store.get(path)
    check_file(path, data, notes.bytes, notes.sha256)
    with of_file(path):
        return unpacked(data)
