"""The only place that asks independent witnesses to cosign checkpoints (C2SP tlog-witness), so that no two people can be shown two logs.

A witness that is away, or refuses, delays nothing: the checkpoint goes out without its line, and the next one asks again.
"""

from collections.abc import Callable, Sequence
from typing import Final, Self

import structlog

from adapters import witness as peer
from adapters.postgres import Connection
from adapters.settings import BadSettingError, Settings
from audit import tree
from orders.checkpoints import Checkpoint
from orders.errors import NoteRefused
from orders.notes import Verifier, parse_note, parse_signatures
from orders.signing import verifier

_TIMEOUT_MS: Final = 2_000
_log = structlog.get_logger(__name__)


class _Witness:
    """One witness, and the size of the last checkpoint that it is known to have cosigned."""

    def __init__(self, url: str, key: Verifier) -> None:
        self.url, self.key, self.size = url.rstrip("/"), key, 0


class Witnesses:
    """All that are configured. `failed` is called with the name of each that did not cosign."""

    def __init__(self, witnesses: Sequence[_Witness], failed: Callable[[str], None]) -> None:
        self._witnesses, self._failed = witnesses, failed

    @classmethod
    def of(cls, settings: Settings, failed: Callable[[str], None]) -> Self:
        """Raises `BadSettingError`."""
        found = []
        for each in filter(None, map(str.strip, settings.audit_witnesses.split(","))):
            url, _, vkey = each.partition(" ")
            try:
                found.append(_Witness(url, verifier(vkey.strip())))
            except NoteRefused as error:
                remedy = "Give `<url> <verifier key>`, several separated by commas."
                raise BadSettingError("RUSHLINE_AUDIT_WITNESSES", str(error), remedy) from error
        return cls(found, failed)

    async def cosigned(self, note: str, checkpoint: Checkpoint, db: Connection) -> str:
        """The note with a line of each witness that answered well. Raises `DatabaseUnavailable`, `TileUnusable`."""
        lines = ""
        for each in self._witnesses:
            try:
                lines += await self._asked(each, note, checkpoint, db)
            except (peer.WitnessAway, peer.WitnessRefused, peer.WitnessConflict, NoteRefused) as error:
                _log.warning("audit-witness-failed", witness=each.key.name, error=error.slug, detail=str(error)[:200])
                self._failed(each.key.name)
        return note + lines

    async def _asked(self, witness: _Witness, note: str, checkpoint: Checkpoint, db: Connection) -> str:
        try:
            answer = await self._ask(witness, note, checkpoint, db)
        except peer.WitnessConflict as error:  # it knows better what it has seen
            witness.size = error.size
            if error.size > checkpoint.size:
                raise
            answer = await self._ask(witness, note, checkpoint, db)
        # Only its own line is taken, and only where it holds.
        own = [each for each in parse_signatures(answer) if (each.name, each.key_id) == (witness.key.name, witness.key.key_id)]
        text = parse_note(note).text.encode()
        if not any(witness.key.verify(text, each.value) for each in own):
            raise peer.WitnessRefused(f"{witness.key.name} answered without a signature of its own over this checkpoint")
        witness.size = checkpoint.size
        return "".join(each.line() for each in own)

    async def _ask(self, witness: _Witness, note: str, checkpoint: Checkpoint, db: Connection) -> str:
        proof = await tree.consistency(db, witness.size, checkpoint.size) if witness.size else []
        return await peer.cosign(witness.url, witness.size, proof, note, timeout_ms=_TIMEOUT_MS)
