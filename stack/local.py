"""The only place that starts, stops and describes the three native servers as one stack."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from stack import kafka, postgres, rabbitmq, secrets
from stack.errors import StackBusyError, StackError
from stack.place import SERVERS, Place, write_private
from stack.ports import LOOPBACK, Ports

_MODULES: Final[dict[str, ModuleType]] = {"postgres": postgres, "rabbitmq": rabbitmq, "kafka": kafka}


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the servers of a stack answer, and the settings (with credentials) by which our processes reach them."""

    postgres: str
    rabbitmq: str
    rabbitmq_ui: str
    kafka: str
    settings: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    running: bool
    pid: int | None
    address: str


def start(home: Path, ports: Ports | None = None, *, only: Sequence[str] = SERVERS, cache: Path | None = None) -> Addresses:
    """Start what does not run yet, all at once, and write `var/local.env`. On return every server accepts connections.

    Without `ports`, those that this home used last. Raises a `StackError`; what this call had started is then stopped.
    """
    place = Place.of(home, cache)
    place.prepare()
    with locked(place):
        ports = agree_on_ports(place, ports)
        known = secrets.keep(place.secrets)
        before = {name for name in SERVERS if _pid(place, name) is not None}
        with ThreadPoolExecutor(len(SERVERS)) as pool:
            begun = {name: pool.submit(_MODULES[name].start, place, ports, known) for name in only}
        failures = [error for error in (task.exception() for task in begun.values()) if error is not None]
        if failures:
            _stop(place, [name for name in only if name not in before])
            raise failures[0]
        settings = secrets.settings(known, ports)
        write_local_env(place, settings)
        return addresses(ports, settings)


def stop(home: Path, *, only: Sequence[str] = SERVERS, purge: bool = False) -> list[str]:
    """Stop what runs, all at once, and name it. `purge` also removes the data, the users and their passwords."""
    place = Place.of(home)
    if not place.var.is_dir():
        return []
    with locked(place):
        stopped = [name for name in only if _pid(place, name) is not None]
        _stop(place, only, at_once=purge)  # who throws the data away need not wait for it to be put in order
        if purge:
            for name in SERVERS:
                _MODULES[name].purge(place)
            for name in ("run", "log", "audit"):  # keys and checkpoints of a log that is no more would refuse the next one
                shutil.rmtree(place.var / name, ignore_errors=True)
            for file in (place.local_env, place.secrets, place.remembered):
                file.unlink(missing_ok=True)
        return stopped


def status(home: Path) -> dict[str, ServerStatus]:
    """Each server: whether it runs, as which process, and where."""
    place = Place.of(home)
    where = addresses(last_ports(place) or Ports(), {})
    return {
        name: ServerStatus(running=(pid := _pid(place, name)) is not None, pid=pid, address=getattr(where, name))
        for name in SERVERS
    }


def write_local_env(place: Place, settings: dict[str, str]) -> None:
    """Written last, so that its existence means that the stack once was ready."""
    write_private(place.local_env, "".join(f"{name}={value}\n" for name, value in settings.items()))


def addresses(ports: Ports, settings: dict[str, str]) -> Addresses:
    return Addresses(
        postgres=f"{LOOPBACK}:{ports.postgres}",
        rabbitmq=f"{LOOPBACK}:{ports.rabbitmq}",
        rabbitmq_ui=f"{LOOPBACK}:{ports.rabbitmq_ui}",
        kafka=f"{LOOPBACK}:{ports.kafka}",
        settings=settings,
    )


def has_data(place: Place) -> bool:
    """Whether a native server has ever been started here."""
    return any(place.folder(module.NAME).exists() for module in _MODULES.values())


def _pid(place: Place, name: str) -> int | None:
    return place.process(_MODULES[name].NAME).pid()


def _stop(place: Place, names: Sequence[str], *, at_once: bool = False) -> None:
    with ThreadPoolExecutor(len(SERVERS)) as pool:
        for task in [pool.submit(_MODULES[name].stop, place, at_once=at_once) for name in names]:
            task.result()


def agree_on_ports(place: Place, wanted: Ports | None) -> Ports:
    last = last_ports(place)
    ports = wanted or last or Ports()
    running = [name for name in SERVERS if _pid(place, name) is not None]
    if running and last is not None and ports != last:
        raise StackError(f"This stack runs on other ports already ({', '.join(running)}).", "Stop it first: `rushline down`.")
    write_private(place.remembered, json.dumps({"ports": asdict(ports)}, indent=2) + "\n")
    return ports


def last_ports(place: Place) -> Ports | None:
    try:
        return Ports(**json.loads(place.remembered.read_text())["ports"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def locked(place: Place) -> Iterator[None]:
    with place.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackBusyError(
                f"Another `rushline up` or `down` is at work on {place.home}.", "Wait for it to end, then try again."
            ) from None
        yield
