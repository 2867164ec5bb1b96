"""The only place that changes the schema: plain SQL files, in order, each once, under an advisory lock, with checksums."""

import hashlib
from pathlib import Path
from typing import Final

from adapters.postgres import connect
from adapters.settings import Settings
from orders.errors import CallAnOperator

_FOLDER: Final = Path(__file__).parent
_LOCK: Final = 0x7275_7368_6C69_6E65  # "rushline"
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""


class MigrationChanged(CallAnOperator):
    """A migration that was applied before has other contents now. Write a new one instead."""

    slug = "migration-changed"


def migrations() -> list[tuple[str, str]]:
    """Name and SQL of each migration, in order."""
    return [(path.name, path.read_text()) for path in sorted(_FOLDER.glob("[0-9]*.sql"))]


async def migrate_all(settings: Settings, *, dry_run: bool = False) -> list[str]:
    """The orders' database, and the ledger's where that is another. Raises `MigrationChanged`."""
    done = [await migrate(dsn, dry_run=dry_run) for dsn in dict.fromkeys((settings.migrate_url, settings.audit_migrate_url))]
    return sorted({name for names in done for name in names})


async def migrate(dsn: str, *, dry_run: bool = False) -> list[str]:
    """Apply what is missing and return its names. Each file is one transaction. Raises `MigrationChanged`."""
    done: list[str] = []
    async with connect(dsn, service="migrate") as conn:
        await conn.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await conn.execute(_TABLE)
        applied = dict(await conn.fetch("SELECT name, checksum FROM schema_migrations"))
        for name, sql in migrations():
            checksum = hashlib.sha256(sql.encode()).hexdigest()
            if name in applied:
                if applied[name] != checksum:
                    raise MigrationChanged(f"{name} was changed after it was applied. Restore it, and add a new file instead")
                continue
            done.append(name)
            if dry_run:
                continue
            async with conn.transaction():
                await conn.execute(sql)
                await conn.execute("INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)", name, checksum)
    return done
