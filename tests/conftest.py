"""Fixtures that all tests share."""

from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest

from adapters.postgres import Pool, open_pool
from adapters.settings import Settings
from tests.servers import servers

# A busy machine is no defect of what is tested: no timing decides a test.
hypothesis.settings.register_profile("rushline", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("rushline")


@pytest.fixture(scope="session")
def stack() -> Iterator[Settings]:
    """Real PostgreSQL, RabbitMQ and Kafka for the whole session, and the settings that reach them."""
    with servers() as settings:
        yield settings


@pytest.fixture
async def pool(stack: Settings) -> AsyncIterator[Pool]:
    """A pool with the application's rights."""
    async with open_pool(stack.postgres_dsn, service="tests", size=8) as opened:
        yield opened
