"""The only place that signs the log: a checkpoint for a tree that goes on from the one that was signed last, or nothing.

What was signed last is asked of the files, not of the ledger's own database alone: whoever rewrites the database does not thereby
rewrite what was promised.
"""

from datetime import datetime
from typing import Final

import structlog

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable
from audit import checkpoint_sql as sql
from audit import tree
from audit.checkpoint_files import CheckpointFiles
from audit.keys import Keys
from orders.checkpoints import Checkpoint, OpenedCheckpoint, open_checkpoint
from orders.errors import CallAnOperator

_log = structlog.get_logger(__name__)
_SHOWN: Final = 16


class LogForked(CallAnOperator):
    """The tree does not go on from what was signed last: the ledger was rewritten. Nothing is signed; `audit verify` says where."""

    slug = "log-forked"


class Signing:
    """One log's. `next` signs what is new; `kept` is what was signed last."""

    def __init__(self, keys: Keys, files: CheckpointFiles) -> None:
        self._keys, self._files = keys, files

    async def next(self, db: Connection, at: datetime) -> str | None:
        """The note of a new checkpoint, already on disk, where the tree has grown since the last. None where it has not.

        The next is then `publish`. Raises `LogForked`, `DatabaseUnavailable`, what opening a note raises, and `OSError`.
        """
        head = await tree.head(db)
        last = await self.last(db)
        if last is not None:
            await _goes_on(db, last, head)
            if head.size == last.size:
                return None
        elif head.size == 0:
            return None
        note = self._keys.sign_text(Checkpoint(self._keys.origin, head.size, head.root).text(), at)
        self._files.append(note, at)
        _log.info("audit-checkpoint-signed", size=head.size)
        return note

    async def last(self, db: Connection) -> Checkpoint | None:
        """What was signed last, here or by another process of this log."""
        found = [self.open(note).checkpoint for note in (self._files.last(), await newest(db)) if note]
        return max(found, key=lambda each: each.size) if found else None

    def kept(self) -> str | None:
        """The newest note in the files, which may not have been published yet."""
        return self._files.last()

    def open(self, note: str) -> OpenedCheckpoint:
        return open_checkpoint(note, self._keys.verifiers)


async def _goes_on(db: Connection, last: Checkpoint, head: tree.TreeHead) -> None:
    if head.size < last.size:
        raise LogForked(f"the tree has {head.size} leaves, and {last.size} were signed: the ledger has lost its end")
    root = head.root if head.size == last.size else await tree.root_at(db, last.size)
    if root != last.root:
        raise LogForked(
            f"the first {last.size} leaves have root {root.hex()[:_SHOWN]}…, and {last.root.hex()[:_SHOWN]}… was signed for them"
        )


async def newest(db: Connection) -> str | None:
    """The newest checkpoint that is served. Raises `DatabaseUnavailable`."""
    try:
        note: str | None = await db.fetchval(sql.NEWEST)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the checkpoints cannot be read: {error}") from error
    return note


async def serve(db: Connection, note: str, checkpoint: Checkpoint, at: datetime) -> None:
    """Let whoever asks over HTTP see this checkpoint. A second time that is nothing. Raises `DatabaseUnavailable`."""
    try:
        await db.execute(sql.KEEP, checkpoint.size, checkpoint.root, note, at)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the checkpoint cannot be kept: {error}") from error
