"""What the audit ledger relies on in TimescaleDB (the Apache edition), tried on the real extension."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from adapters.postgres import Connection, PostgresError, connect
from adapters.settings import Settings

# The first use on a machine fetches it.
pytestmark = pytest.mark.timeout(600)

_TABLE = """
CREATE SCHEMA probe;
GRANT USAGE ON SCHEMA probe TO rushline_audit_writer;
CREATE TABLE probe.events (event_id text, at timestamptz, body text NOT NULL, PRIMARY KEY (event_id, at));
INSERT INTO probe.events SELECT 'evt_' || day, now() - day * interval '1 day', 'true' FROM generate_series(1, 5) AS day;
SELECT create_hypertable('probe.events', by_range('at', interval '1 day'), migrate_data => true, create_default_indexes => false);
CREATE FUNCTION probe.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'append only: % of %', TG_OP, TG_TABLE_NAME; END $$;
CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON probe.events FOR EACH ROW EXECUTE FUNCTION probe.refuse();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON probe.events FOR EACH STATEMENT EXECUTE FUNCTION probe.refuse();
GRANT INSERT ON probe.events TO rushline_audit_writer;
CREATE FUNCTION probe.forget(before timestamptz) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
    $$ SELECT public.drop_chunks('probe.events', older_than => before) $$;
"""


@pytest.fixture
async def owner(hypertables: Settings) -> AsyncIterator[Connection]:
    """Someone who owns a hypertable with a day in each chunk, which another role may insert into."""
    async with connect(hypertables.migrate_url, service="tests") as connection:
        await connection.execute(_TABLE)
        yield connection
        await connection.execute("DROP SCHEMA probe CASCADE")


@pytest.fixture
async def writer(hypertables: Settings, owner: Connection) -> AsyncIterator[Connection]:
    async with connect(hypertables.audit_url, service="tests") as connection:
        yield connection


async def _chunks(owner: Connection) -> list[str]:
    return [row[0] for row in await owner.fetch("SELECT show_chunks('probe.events')::text ORDER BY 1")]


async def test_the_extension_is_live_in_a_migrated_database(hypertables: Settings) -> None:
    async with connect(hypertables.migrate_url, service="tests") as owner:
        version = await owner.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
        assert version.startswith("2.")
        assert await owner.fetchval("SHOW timescaledb.license") == "apache"
        assert await owner.fetchval("SELECT count(*) FROM schema_migrations") > 0


async def test_rows_from_before_are_moved_into_chunks(owner: Connection) -> None:
    assert await owner.fetchval("SELECT count(*) FROM ONLY probe.events") == 0
    assert await owner.fetchval("SELECT count(*) FROM probe.events") == 5
    assert len(await _chunks(owner)) == 5


async def test_a_role_that_may_only_insert_makes_chunks_and_copies(owner: Connection, writer: Connection) -> None:
    later = datetime.now(UTC) + timedelta(days=10)
    await writer.execute("INSERT INTO probe.events VALUES ('evt_new', $1, 'true') ON CONFLICT DO NOTHING", later)
    rows = [(f"evt_copied_{day}", later + timedelta(days=day), "true") for day in (1, 2)]
    await writer.copy_records_to_table("events", schema_name="probe", records=rows)
    assert len(await _chunks(owner)) == 8
    for refused in (
        "SELECT 1 FROM probe.events",
        "UPDATE probe.events SET body = 'x'",
        "SELECT drop_chunks('probe.events', now())",
    ):
        with pytest.raises(PostgresError, match=r"permission denied|must be owner"):
            await writer.execute(refused)


async def test_a_unique_key_needs_the_time(owner: Connection) -> None:
    with pytest.raises(PostgresError, match='without the column "at"'):
        await owner.execute("CREATE UNIQUE INDEX ON probe.events (event_id)")


async def test_rows_cannot_be_changed_by_who_was_granted_it_not_even_in_a_chunk(owner: Connection, writer: Connection) -> None:
    await owner.execute("GRANT SELECT, UPDATE, DELETE ON probe.events TO rushline_audit_writer")
    for table in ("probe.events", *await _chunks(owner)):
        for change in (f"UPDATE {table} SET body = 'forged'", f"DELETE FROM {table}"):  # noqa: S608 - tables of our own
            with pytest.raises(PostgresError, match="append only"):
                await writer.execute(change)
    assert await owner.fetchval("SELECT count(*) FROM probe.events WHERE body = 'true'") == 5


async def test_a_chunk_can_be_truncated_by_who_was_granted_it_unless_it_has_a_trigger_of_its_own(
    owner: Connection, writer: Connection
) -> None:
    """PostgreSQL clones row triggers into partitions and chunks, never those of a statement: so TRUNCATE is never granted."""
    first, second, *_ = await _chunks(owner)
    for table in ("probe.events", first):
        with pytest.raises(PostgresError, match="permission denied"):
            await writer.execute(f"TRUNCATE {table}")
    await owner.execute("GRANT TRUNCATE ON probe.events TO rushline_audit_writer")
    with pytest.raises(PostgresError, match="append only"):
        await writer.execute("TRUNCATE probe.events")
    await writer.execute(f"TRUNCATE {first}")
    assert await owner.fetchval("SELECT count(*) FROM probe.events") == 4
    await owner.execute(f"CREATE TRIGGER no_truncate BEFORE TRUNCATE ON {second} EXECUTE FUNCTION probe.refuse()")
    with pytest.raises(PostgresError, match="append only"):
        await writer.execute(f"TRUNCATE {second}")


async def test_old_chunks_go_by_a_function_of_the_owner_and_come_back_with_its_transaction(
    owner: Connection, writer: Connection
) -> None:
    await owner.execute("GRANT EXECUTE ON FUNCTION probe.forget TO rushline_audit_writer")
    before = datetime.now(UTC) - timedelta(days=3)
    transaction = writer.transaction()
    await transaction.start()
    gone = await writer.fetch("SELECT probe.forget($1)", before)
    await transaction.rollback()
    assert len(await _chunks(owner)) == 5
    assert len(await writer.fetch("SELECT probe.forget($1)", before)) == len(gone) == 2
    assert await owner.fetchval("SELECT min(at) FROM probe.events") >= before - timedelta(days=1)
