"""The only place that knows what an archive says of itself: its manifest, and how each thing that can be wrong with it is named.

An archive exists when its manifest does. It names every file with its size and hash, and what ties its events to the log: the
log's tree before them, and a checkpoint after them.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec

from adapters.archive_errors import DamagedObject, NotInArchive, typed
from orders.errors import CallAnOperator

FORMAT: Final = "rushline/audit-archive/v1"
MANIFEST: Final = "manifest.json"
CHECKPOINTS: Final = "checkpoints.txt.zst"
STATEMENT: Final = "dropped.txt"
_SORTED: Final = msgspec.json.Encoder(order="sorted")


class ArchiveBroken(CallAnOperator):
    """The archive is not what it was. `file` is the first file that shows it."""

    slug = "archive-broken"

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file, self.problem = file, problem


class FileMissing(ArchiveBroken):
    """A file that a manifest names, or the manifest itself, is not in the archive."""

    slug = "archive-file-missing"


class FileTruncated(ArchiveBroken):
    """A file is shorter than its manifest says."""

    slug = "archive-file-truncated"


class FileAltered(ArchiveBroken):
    """A file holds other bytes than were written, or events that are not those of the log."""

    slug = "archive-file-altered"


class ManifestAltered(ArchiveBroken):
    """A manifest does not say what was written."""

    slug = "archive-manifest-altered"


class LedgerDiffers(CallAnOperator):
    """The ledger's events are not those of its tree, or some are missing. Nothing is archived before that is understood."""

    slug = "ledger-differs"


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Parquet file: a range of leaves, sorted by chain. `first_chain` to `last_chain` and the times bound what it holds."""

    file: str
    first_leaf: int
    end_leaf: int
    bytes: int
    sha256: str
    first_chain: str
    last_chain: str
    first_occurred_at: datetime
    last_occurred_at: datetime


class Notes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The checkpoints since the archive before: signed notes, each followed by an empty line."""

    file: str
    count: int
    bytes: int
    sha256: str


class Tree(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ties the events to the log. All hashes in hex.

    `before`: the roots of the complete subtrees over all leaves before these, the largest first. With these leaves appended they
    make a root, and `consistency` (RFC 6962, 2.1.2) shows that it is the beginning of the tree of the checkpoint `note`.
    """

    before: list[str]
    size: int
    root: str
    note: str
    consistency: list[str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an archive says of itself. `root`: the RFC 6962 hash of its leaves alone."""

    format: str
    name: str
    first_leaf: int
    end_leaf: int
    events: int
    from_at: datetime
    to_at: datetime
    first_occurred_at: datetime
    last_occurred_at: datetime
    bytes: int
    root: str
    tree: Tree
    parts: list[Part]
    checkpoints: Notes

    def path(self, file: str) -> str:
        return f"{self.name}/{file}"


def name_of(first: int, end: int) -> str:
    """An archive is named by its leaves, so that a listing has the log's order."""
    return f"events/{first:012}-{end:012}"


def spelled(manifest: Manifest) -> bytes:
    """In canonical JSON: the same manifest is always the same bytes."""
    return _SORTED.encode(msgspec.to_builtins(manifest))


def read(name: str, data: bytes) -> Manifest:
    """The manifest of an archive from its bytes. Raises `ManifestAltered` for what no manifest of that name can be."""
    path = f"{name}/{MANIFEST}"
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ManifestAltered(path, f"it cannot be read: {error}") from error
    if spelled(manifest) != data:
        raise ManifestAltered(path, "it is not spelled as it was written")
    if manifest.format != FORMAT:
        raise ManifestAltered(path, f"its format is {manifest.format!r}, not {FORMAT!r}")
    if manifest.name != name or name_of(manifest.first_leaf, manifest.end_leaf) != name:
        raise ManifestAltered(path, f"it is of {manifest.name}, leaves {manifest.first_leaf} to {manifest.end_leaf}")
    at = manifest.first_leaf
    for part in manifest.parts:
        if part.first_leaf != at:
            raise ManifestAltered(path, f"{part.file} begins with leaf {part.first_leaf}, and the part before ends at {at}")
        at = part.end_leaf
    if at != manifest.end_leaf or manifest.events != manifest.end_leaf - manifest.first_leaf:
        raise ManifestAltered(path, f"its parts end at leaf {at}, with {manifest.events} events, and it at {manifest.end_leaf}")
    return manifest


def recorded(name: str, values: dict[str, Any]) -> Manifest:
    """The manifest as the ledger remembers it."""
    return read(name, _SORTED.encode(values))


def compare(found: Manifest, known: Manifest) -> None:
    """That the archive's manifest says what the ledger remembers. Raises `ManifestAltered`, which names the field."""
    for field in known.__struct_fields__:
        ours, theirs = getattr(known, field), getattr(found, field)
        if ours != theirs:
            raise ManifestAltered(
                known.path(MANIFEST), f"its field {field!r} is not what was written: {theirs!r:.120} instead of {ours!r:.120}"
            )


def check_file(path: str, data: bytes, size: int, sha256: str) -> None:
    """That these bytes are those that the manifest names. Raises `FileTruncated`, `FileAltered`."""
    check_size(path, len(data), size)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise FileAltered(path, f"its SHA-256 is {found}, and its manifest says {sha256}")


def check_size(path: str, found: int, size: int) -> None:
    """The same of its size alone."""
    if found < size:
        raise FileTruncated(path, f"it has {found} bytes, and its manifest says {size}")
    if found > size:
        raise FileAltered(path, f"it has {found} bytes, more than its manifest says: {size}")


@contextmanager
def of_file(path: str) -> Iterator[None]:
    """What goes wrong in here is wrong with this file of the archive."""
    try:
        with typed():
            yield
    except NotInArchive as error:
        raise FileMissing(path, "it is not in the archive") from error
    except DamagedObject as error:
        raise FileAltered(path, f"it cannot be read: {error}") from error
