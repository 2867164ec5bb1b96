"""Fixtures that all tests share."""

from collections.abc import AsyncIterator, Iterator

import hypothesis
import msgspec
import pytest

from adapters.postgres import Pool, open_pool
from adapters.settings import Settings
from tests.s3 import S3Server, s3_server
from tests.servers import servers
from tests.timescale import CHOICE, FLAVOURS, timescale

# What is about TimescaleDB alone is not collected where the user chose to go without it; the header says so.
collect_ignore = [] if "timescale" in FLAVOURS else ["integration/test_timescale_live.py"]


def pytest_report_header() -> str:
    left_out = "" if "timescale" in FLAVOURS else f"; TimescaleDB is left out by {CHOICE}"
    return f"PostgreSQL: {', '.join(FLAVOURS)}{left_out}"


# A busy machine is no defect of what is tested: no timing decides a test.
hypothesis.settings.register_profile("rushline", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("rushline")


@pytest.fixture(scope="session")
def stack() -> Iterator[Settings]:
    """Real PostgreSQL, RabbitMQ and Kafka for the whole session, and the settings that reach them."""
    with servers() as settings:
        yield settings


@pytest.fixture(scope="session")
def hypertables() -> Iterator[Settings]:
    """A PostgreSQL with TimescaleDB for the whole session, migrated, beside that of `stack`."""
    with timescale() as settings:
        yield settings


@pytest.fixture(scope="session", params=FLAVOURS)
def flavoured(request: pytest.FixtureRequest, stack: Settings) -> Settings:
    """The servers of `stack`, once with its own PostgreSQL and once with that of `hypertables`: the same test on both."""
    if request.param == "plain":
        return stack
    other: Settings = request.getfixturevalue("hypertables")
    return msgspec.structs.replace(
        stack,
        postgres_dsn=other.postgres_dsn,
        migrate_dsn=other.migrate_dsn,
        audit_dsn=other.audit_dsn,
        audit_reader_dsn=other.audit_reader_dsn,
    )


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 server for the whole session. Take a prefix of your own in its bucket."""
    with s3_server() as server:
        yield server


@pytest.fixture
async def pool(stack: Settings) -> AsyncIterator[Pool]:
    """A pool with the application's rights."""
    async with open_pool(stack.postgres_dsn, service="tests", size=8) as opened:
        yield opened
