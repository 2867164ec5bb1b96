"""The only place that starts our own processes, starts them again when they die, and stops them together."""

import asyncio
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec
import structlog

from adapters.process import leash
from orders.names import Queue

GROUPS: Final = ("fraud", "analytics", "notifications", "support", "audit")
LETTERS: Final = "letters"  # what failed for good: recorded, and kept
WORK: Final = (*(queue.value for queue in Queue), LETTERS)
_UNUSABLE: Final = 2  # a process that cannot use its settings says why and is not started again
_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 5.0
_SETTLED_S: Final = 10.0
_GRACE_S: Final = 15.0
FEWEST: Final = 4

log = structlog.get_logger()


class Part(msgspec.Struct, frozen=True):
    """One process of ours: a name for people, and the words after `rushline`."""

    name: str
    argv: tuple[str, ...]
    nice: int = 0


# Whoever follows the facts can wait when processors are short: nobody's order depends on it.
_NICE: Final = {"stream": 10}


def plan(processes: int | None = None, copies: Mapping[str, int] | None = None) -> list[Part]:
    """Which processes make up the system: one for each service, or fewer that do several jobs.

    `copies`: how many of a kind (`relay`, `clock`, `worker`, `stream`) run side by side.
    """
    wanted = processes or 3 + len(WORK) + len(GROUPS)
    spare = max(0, wanted - FEWEST)
    alone = spare > 0
    spare -= alone
    workers = _spread(list(WORK), 1 + (spare + 1) // 2)
    streams = _spread(list(GROUPS), 1 + spare // 2)
    parts = [Part("gateway", ("gateway",)), Part("relay", ("relay",) if alone else ("relay", "--with-clock"))]
    parts += [Part("clock", ("clock",))] if alone else []
    parts += [Part(f"worker-{'+'.join(names)}", ("worker", *names)) for names in workers]
    parts += [Part(f"stream-{'+'.join(names)}", ("stream", *names)) for names in streams]
    many = copies or {}
    return [
        Part(part.name if number == 0 else f"{part.name}-{number + 1}", part.argv, _NICE.get(part.argv[0], 0))
        for part in parts
        for number in range(many.get(part.argv[0], 1))
    ]


def _spread(names: list[str], heaps: int) -> list[list[str]]:
    heaps = max(1, min(heaps, len(names)))
    return [names[i::heaps] for i in range(heaps)]


class Supervisor:
    """Runs parts until stopped. `processes` tells which are alive, for whoever wants to look or to kill."""

    def __init__(self, parts: Sequence[Part], environ: Mapping[str, str], log_dir: Path) -> None:
        self._parts, self._environ, self._log_dir = parts, dict(environ), log_dir
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.restarts: dict[str, int] = {part.name: 0 for part in parts}
        self._unusable = asyncio.Event()
        self.last_words = ""  # of a process that could not use its settings
        self._started = asyncio.Condition()

    async def run(self, stop: asyncio.Event) -> bool:
        """Until stopped. False where a process could not use its settings: its log says which."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        keepers = [asyncio.create_task(self._keep(part, stop)) for part in self._parts]
        waits = [asyncio.create_task(event.wait()) for event in (stop, self._unusable)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*(self._end(process) for process in list(self.processes.values())))
        await asyncio.gather(*keepers)
        return not self._unusable.is_set()

    async def replaced(self, name: str, old: asyncio.subprocess.Process) -> None:
        """Wait until another process does this part's work."""
        async with self._started:
            await self._started.wait_for(lambda: self.processes.get(name) not in (None, old))

    async def _keep(self, part: Part, stop: asyncio.Event) -> None:
        wait = _FIRST_WAIT_S
        with (self._log_dir / f"{part.name}.log").open("ab") as output:
            while not stop.is_set():
                began = time.monotonic()
                code = await self._once(part, output, stop)
                if stop.is_set():
                    return
                if code == _UNUSABLE:
                    self.last_words = f"{part.name}: {_last_line(Path(output.name))}"
                    self._unusable.set()
                    return
                wait = _FIRST_WAIT_S if time.monotonic() - began > _SETTLED_S else min(wait * 2, _LONGEST_WAIT_S)
                self.restarts[part.name] += 1
                log.warning("process ended, starting it again", part=part.name, code=code, wait_s=wait)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait)

    async def _once(self, part: Part, output: IO[bytes], stop: asyncio.Event) -> int:
        process = await asyncio.create_subprocess_exec(
            *leash(), "nice", "-n", str(part.nice), sys.executable, "-m", "console", *part.argv,
            env=self._environ, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        self.processes[part.name] = process
        async with self._started:
            self._started.notify_all()
        if stop.is_set():
            await self._end(process)
        code = await process.wait()
        self.processes.pop(part.name, None)
        return code

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_GRACE_S):
                await process.wait()
        except TimeoutError:
            log.warning("process did not stop in time", pid=process.pid)
            with suppress(ProcessLookupError):
                process.kill()


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
