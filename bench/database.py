"""The only place where a benchmark gets a database of its own, migrated, and gone with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import msgspec

from adapters.postgres import connect
from adapters.settings import Settings
from outbox.migrations import migrate

_DSNS: Final = {
    "postgres_dsn": "postgres_dsn", "migrate_dsn": "migrate_url", "audit_dsn": "audit_url", "audit_reader_dsn": "audit_reader_url",
    "audit_migrate_dsn": "audit_migrate_url",
}  # fmt: skip


@asynccontextmanager
async def own_database(settings: Settings, name: str) -> AsyncIterator[Settings]:
    """The same servers and roles with a new database of this name, for orders and ledger alike."""
    elsewhere = {field: urlsplit(getattr(settings, said))._replace(path=f"/{name}").geturl() for field, said in _DSNS.items()}
    async with connect(settings.migrate_url, service="bench") as owner:
        await owner.execute(f"DROP DATABASE IF EXISTS {name}")
        await owner.execute(f"CREATE DATABASE {name}")
    try:
        own = msgspec.structs.replace(settings, **elsewhere)
        await migrate(own.migrate_url)
        yield own
    finally:
        async with connect(settings.migrate_url, service="bench") as owner:
            await owner.execute(f"DROP DATABASE IF EXISTS {name}")  # not by force, which an autovacuum refuses
