"""The only place that measures the same events in immudb: built from its Go module on first use, a server and client of its own."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_MODULE: Final = Path(__file__).with_name("immudb")
_BATCH: Final = 500


def built(home: str) -> Path | None:
    """The program, or None on a machine without Go. Blocks for minutes, once."""
    go, program = shutil.which("go"), Path(home).resolve().parent / "cache" / "immudb-bench"
    if go is not None and not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([go, "build", "-o", str(program), "."], cwd=_MODULE, check=True)  # noqa: S603  # its own command
    return program if program.exists() else None


async def seconds_in_immudb(program: Path, bodies: Sequence[bytes]) -> float:
    """How long it takes to store these events, in batches of 500, each acknowledged."""
    with tempfile.TemporaryDirectory(prefix="rushline-immudb-") as folder:
        running = await asyncio.create_subprocess_exec(
            str(program), folder, str(_BATCH), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        said, _ = await running.communicate(b"\n".join(bodies))
    took, count = said.split()[-2:]
    if int(count) != len(bodies):
        raise RuntimeError(f"immudb stored {int(count)} of {len(bodies)} events")
    return float(took)
