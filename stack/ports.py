"""The only place that knows which ports a stack listens on, and who holds one that is taken."""

import random
import socket
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

from stack.errors import PortTakenError

LOOPBACK: Final = "127.0.0.1"

# Below the range from which Linux takes the ports of outgoing connections, so that none of those can slip in between.
_FREE_FROM, _FREE_TO = 20_000, 32_000
_PASSING_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the servers of one stack listen, on loopback. The first four are part of the interface, the rest internal."""

    postgres: int = 55_432
    rabbitmq: int = 55_672
    rabbitmq_ui: int = 55_673
    kafka: int = 59_092
    rabbitmq_dist: int = 55_674
    rabbitmq_epmd: int = 55_675
    rabbitmq_prometheus: int = 55_676
    kafka_controller: int = 59_093

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody uses now, for a stack beside others."""
        names = [field.name for field in fields(cls)]
        chosen: list[int] = []
        held: list[socket.socket] = []
        try:
            while len(chosen) < len(names):
                port = random.SystemRandom().randrange(_FREE_FROM, _FREE_TO)
                if (taken := _bind(port)) is not None:
                    held.append(taken)
                    chosen.append(port)
        finally:
            for each in held:
                each.close()
        return cls(**dict(zip(names, chosen, strict=True)))

    def __iter__(self) -> Iterator[int]:
        return iter(astuple(self))


def require_free(port: int, server: str) -> None:
    """Raise `PortTakenError`, naming the holder, where the port cannot be listened on.

    An outgoing connection of anybody may have been given this port for a while: that one is waited for.
    """
    give_up = time.monotonic() + _PASSING_S
    while (probe := _bind(port)) is None:
        holder = listener(port)
        if holder is not None or time.monotonic() > give_up:
            raise _taken(port, server, holder)
        time.sleep(0.1)
    probe.close()


def _taken(port: int, server: str, holder: int | None) -> PortTakenError:
    who = f"process {holder} ({_command(holder)})" if holder else "another process (of another user, or an outgoing connection)"
    return PortTakenError(
        f"{server} cannot listen on {LOOPBACK}:{port}: {who} holds that port.",
        f"Stop {'it' if not holder else f'process {holder}'}, or start this stack on other ports.",
    )


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def listener(port: int) -> int | None:
    """The process that listens on a port, as far as this user may know."""
    inodes = {row[9] for row in _sockets() if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    links = {f"socket:[{inode}]" for inode in inodes}
    if not links:
        return None
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(str(fd.readlink()) in links for fd in folder.iterdir()):
                return int(folder.parent.name)
        except OSError:
            continue  # it ended meanwhile, or it belongs to somebody else
    return None


def _bind(port: int) -> socket.socket | None:
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((LOOPBACK, port))
        probe.listen(1)
    except OSError:
        probe.close()
        return None
    return probe


def _sockets() -> list[list[str]]:
    rows: list[list[str]] = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if table.is_file():
            rows += [line.split() for line in table.read_text().splitlines()[1:]]
    return rows


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "unknown"
    return b" ".join(words).decode(errors="replace").strip()[:80] or "unknown"
