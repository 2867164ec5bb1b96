"""Every SQL statement of every package prepares on the real schema."""

import importlib
from typing import Final

import pytest

from adapters.postgres import connect
from adapters.settings import Settings
from outbox import sql as outbox_sql
from tests.making import REPOSITORY

PACKAGES: Final = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for top in ("adapters", "audit", "console", "gateway", "orders", "outbox", "simulation", "streams", "workers")
    for path in (REPOSITORY / top).rglob("*sql*.py")
)


SCHEMAS: Final = ("public.", "audit.")  # what stands for SCHEMA. in the streams' statements


def _statements() -> list[tuple[str, str, str]]:
    found = []
    for name in PACKAGES:
        for constant, value in vars(importlib.import_module(name)).items():
            if constant.isupper() and isinstance(value, str):
                spelled = sorted({value.replace("SCHEMA.", schema) for schema in SCHEMAS})
                found += [(name, constant, statement) for statement in spelled]
    return found


@pytest.mark.parametrize(("module", "constant", "statement"), _statements())
async def test_every_statement_prepares_on_the_real_schema(stack: Settings, module: str, constant: str, statement: str) -> None:
    # As the owner: the rights of each role are tested where the statements are used.
    async with connect(stack.migrate_url, service="tests") as conn:
        prepared = await conn.prepare(statement)
        assert prepared.get_parameters() is not None, f"{module}.{constant}"


def test_the_outboxs_statements_are_among_those_that_are_prepared() -> None:
    assert ("outbox.sql", "APPLY", outbox_sql.APPLY) in _statements()
