"""The only place where tests get their servers: those the environment names, else containers, else a native stack.

A missing server is a failure, never a skip. Containers are those of `compose.yaml`, by testcontainers, as a project of this
run alone: what is tested is what is started. `RUSHLINE_TEST_SERVERS` = `native` or `containers` takes the choice away.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testcontainers.compose import DockerCompose

from adapters import topology
from adapters.settings import PREFIX, Settings, load_settings
from outbox.migrations import migrate_all
from stack import containers, local
from stack.place import SERVERS, Place
from stack.ports import Ports

REPOSITORY = Path(__file__).parent.parent
CHOICE = f"{PREFIX}TEST_SERVERS"
NAMED = ("POSTGRES_DSN", "RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL", "KAFKA_BOOTSTRAP")


@contextmanager
def servers() -> Iterator[Settings]:
    """Three servers, migrated, with their topology, and the settings that reach them."""
    choice = os.environ.pop(CHOICE, "")  # no setting of the product, which refuses names that it does not know
    named = [name for name in NAMED if PREFIX + name in os.environ]
    if named and len(named) < len(NAMED):
        missing = sorted(set(NAMED) - set(named))
        raise RuntimeError(
            f"tests on servers of your own need all of {', '.join(PREFIX + n for n in NAMED)}; missing: {missing}"
        )
    if named:
        yield _prepared(load_settings(local=Path(os.devnull)))
        return
    with _of_our_own(choice) as settings:
        yield _prepared(settings)


@contextmanager
def _of_our_own(choice: str) -> Iterator[Settings]:
    if choice not in {"", "native", "containers"}:
        raise RuntimeError(f"{CHOICE} is {choice!r}: give native, containers, or nothing")
    out_of_the_question = containers.unusable()
    if choice == "containers" and out_of_the_question is not None:
        raise out_of_the_question
    if choice == "native" or out_of_the_question is not None:
        with _native() as settings:
            yield settings
    else:
        with _in_containers() as settings:
            yield settings


@contextmanager
def _in_containers() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="rushline-tests-") as folder:
        place = Place.of(Path(folder))
        place.prepare()
        env_file, settings = containers.describe(place, Ports.free())
        with DockerCompose(
            containers.FILE.parent, containers.FILE.name, pull=True, env_file=str(env_file), services=list(SERVERS)
        ):
            yield load_settings({**settings, f"{PREFIX}HOME": folder}, local=Path(os.devnull))


@contextmanager
def _native() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="rushline-tests-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        started = local.start(home, Ports.free(), cache=REPOSITORY / "var" / "cache")
        try:
            yield load_settings({**started.settings, f"{PREFIX}HOME": folder}, local=Path(os.devnull))
        finally:
            local.stop(home, purge=True)


def _prepared(settings: Settings) -> Settings:
    async def prepare() -> None:
        await migrate_all(settings)
        await topology.apply(settings, dry_run=False)

    asyncio.run(prepare())
    return settings
