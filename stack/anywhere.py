"""The only place that decides between containers and native processes, and remembers which of them a home uses."""

import enum
from collections.abc import Callable, Sequence
from pathlib import Path

from stack import containers, local
from stack.errors import StackError
from stack.local import Addresses, ServerStatus
from stack.place import SERVERS, Place
from stack.ports import Ports


class How(enum.Enum):
    AUTO = "auto"
    CONTAINERS = "containers"
    NATIVE = "native"


def up(
    home: Path,
    ports: Ports | None = None,
    *,
    how: How = How.AUTO,
    only: Sequence[str] = SERVERS,
    say: Callable[[str], object] = lambda _: None,
) -> Addresses:
    """Start the stack: in containers where an engine answers and has the images, otherwise natively."""
    place = Place.of(home)
    if how is How.NATIVE or (how is How.AUTO and _runs_natively(place)):
        return local.start(home, ports, only=only)
    reason = containers.unusable()
    if reason is None:
        try:
            return containers.start(place, ports, only=only)
        except containers.NoImagesError as error:
            reason = error
    if how is How.CONTAINERS:
        raise reason
    if not isinstance(reason, containers.NoEngineError):
        say(f"{reason.problem} Starting native processes instead.")
    return local.start(home, ports, only=only)


def down(home: Path, *, only: Sequence[str] = SERVERS, purge: bool = False) -> list[str]:
    """Stop what runs, and name it."""
    place = Place.of(home)
    stopped = containers.stop(place, only=only, purge=purge) if containers.used(place) else []
    return stopped + local.stop(home, only=only, purge=purge)


def status(home: Path) -> dict[str, ServerStatus]:
    place = Place.of(home)
    return containers.status(place) if containers.used(place) else local.status(home)


def settings(home: Path) -> dict[str, str]:
    """What `var/local.env` tells our processes; empty before the first `up`."""
    try:
        lines = Place.of(home).local_env.read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _runs_natively(place: Place) -> bool:
    """A native stack stays native: its data is there."""
    return not containers.used(place) and local.has_data(place)


__all__ = ["Addresses", "How", "ServerStatus", "StackError", "down", "settings", "status", "up"]
