"""The only place where tests get their servers: those the environment names, else containers, else a native stack.

A missing server is a failure, never a skip.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.settings import PREFIX, Settings, load_settings
from stack import local
from stack.ports import Ports

REPOSITORY = Path(__file__).parent.parent
NAMED = ("POSTGRES_DSN", "RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL", "KAFKA_BOOTSTRAP")


@contextmanager
def servers() -> Iterator[Settings]:
    """Three servers, migrated, with their topology, and the settings that reach them."""
    named = [name for name in NAMED if PREFIX + name in os.environ]
    if named and len(named) < len(NAMED):
        missing = sorted(set(NAMED) - set(named))
        raise RuntimeError(f"tests on servers of your own need all of {', '.join(PREFIX + n for n in NAMED)}; missing: {missing}")
    if named:
        yield _prepared(load_settings(local=Path(os.devnull)))
        return
    with _native() as settings:
        yield _prepared(settings)


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
    from adapters import topology
    from outbox.migrations import migrate

    async def prepare() -> None:
        await migrate(settings.migrate_url)
        await topology.apply(settings, dry_run=False)

    asyncio.run(prepare())
    return settings
