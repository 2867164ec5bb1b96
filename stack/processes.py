"""The only place where a server process is started, recognised again, and stopped."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stack.errors import ServerDiedError

_POLL_S: Final = 0.02
_ENDED: Final = ("Z", "X")
_LONG_LOG_BYTES: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that a server runs as; None everywhere means the present one."""

    uid: int | None = None
    gid: int | None = None


ME: Final = Owner()


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One server process, remembered in a pid file together with its start time: a pid alone is soon somebody else's."""

    name: str
    pid_file: Path
    log: Path

    def pid(self) -> int | None:
        """Its pid while it runs. A stale pid file counts as not running."""
        try:
            noted = json.loads(self.pid_file.read_text())
            pid, born = int(noted["pid"]), str(noted["born"])
        except (OSError, ValueError, TypeError, KeyError):
            return None
        state, began = _life(pid)
        if began != born:
            return None
        if state in _ENDED:
            with contextlib.suppress(ChildProcessError):  # not our child, where another launcher started it
                os.waitpid(pid, os.WNOHANG)  # until its parent takes note, others still count it among the living
            return None
        return pid

    def spawn(self, command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, owner: Owner = ME) -> int:
        """Start it in a session of its own, so that it outlives the launcher and its terminal."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.is_file() and self.log.stat().st_size > _LONG_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))
        with self.log.open("ab") as log:
            child = subprocess.Popen(  # noqa: S603 - the command is ours
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                user=owner.uid,
                group=owner.gid,
                extra_groups=None if owner.gid is None else [owner.gid],
            )
        child.returncode = 0  # it is not ours to wait for: silences the warning about a child still running
        self.pid_file.write_text(json.dumps({"pid": child.pid, "born": _life(child.pid)[1]}))
        return child.pid

    def is_up(self, ready: Callable[[], bool], *, timeout_s: float) -> bool:
        """Whether it runs already. One that another launcher left half started, or half stopped, is waited for."""
        give_up = time.monotonic() + timeout_s
        while self.pid() is not None:
            if ready():
                return True
            if time.monotonic() > give_up:
                raise self._died(f"runs, but was not ready after {timeout_s:.0f} s")
            time.sleep(_POLL_S)
        return False

    def wait_ready(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Poll until it is ready. Raises `ServerDiedError` with the end of its log where it never is."""
        give_up = time.monotonic() + timeout_s
        while not ready():
            if self.pid() is None:
                raise self._died("ended while it started")
            if time.monotonic() > give_up:
                raise self._died(f"was not ready after {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def stop(self, how: signal.Signals = signal.SIGTERM, *, timeout_s: float = 30.0) -> None:
        """Ask it to stop, wait for that, and end it for good where it does not."""
        pid = self.pid()
        if pid is not None:
            _signal(pid, how)
            if not _gone(self, timeout_s):
                _signal(pid, signal.SIGKILL)
                _gone(self, 5.0)
        self.pid_file.unlink(missing_ok=True)

    def _died(self, how: str) -> ServerDiedError:
        return ServerDiedError(
            f"{self.name} {how}. The end of its log says:\n{tail(self.log)}",
            f"See {self.log}; `rushline down --purge` begins again with empty data.",
        )


def tail(log: Path, lines: int = 12) -> str:
    """The end of a log, indented."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8_192))
            text = file.read().decode(errors="replace")
    except OSError:
        return "    (there is no log)"
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (its log is empty)"


def run(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, owner: Owner = ME
) -> str:
    """Run a tool to its end and give what it printed. Raises `subprocess.CalledProcessError`."""
    done = subprocess.run(  # noqa: S603 - the command is ours
        [str(word) for word in command],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=None if env is None else dict(env),
        cwd=cwd,
        user=owner.uid,
        group=owner.gid,
        extra_groups=None if owner.gid is None else [owner.gid],
    )
    return done.stdout


def _life(pid: int) -> tuple[str, str | None]:
    """The state of a process, and when it began, as this boot counts time; nothing for one that is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", None
    return after_name[0], f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {after_name[19]}"


def _signal(pid: int, how: signal.Signals) -> None:
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return


def _gone(process: Process, timeout_s: float) -> bool:
    give_up = time.monotonic() + timeout_s
    while process.pid() is not None:
        if time.monotonic() > give_up:
            return False
        time.sleep(_POLL_S)
    return True
