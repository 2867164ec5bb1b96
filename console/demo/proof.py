"""The only place where the demonstration has its audit log verified: by the command's own check, once the log is signed to its end."""

import asyncio
import time
from typing import Final

import msgspec

from adapters.postgres import Connection
from adapters.settings import Settings
from console.audit_verify import verified
from console.demo import sql

_PATIENCE_S: Final = 20.0
_LOOK_S: Final = 0.2


class Proof(msgspec.Struct, frozen=True):
    """What `rushline audit verify` found. `signed`: how many leaves the newest checkpoint covers; `leaves`: how many there are."""

    leaves: int
    signed: int
    checkpoints: int
    breaks: list[str]


async def prove(db: Connection, settings: Settings) -> Proof:
    """Wait until everything is signed, but not for ever; then verify all of it."""
    ends = time.monotonic() + _PATIENCE_S
    while (row := (await db.fetch(sql.SIGNED))[0])["signed"] < row["leaves"] and time.monotonic() < ends:
        await asyncio.sleep(_LOOK_S)
    report = await verified(settings)
    return Proof(row["leaves"], row["signed"], report.checkpoints, [finding.sentence for finding in report.findings])
