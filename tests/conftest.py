"""Fixtures that all tests share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from adapters.postgres import Pool, open_pool
from adapters.settings import Settings
from tests.servers import servers


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
