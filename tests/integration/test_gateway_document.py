"""The gateway as its OpenAPI document describes it, tried by schemathesis against a running process."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import checks as of_response
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks

from adapters.settings import Settings
from gateway.auth import issue
from orders.names import Role
from tests.integration.gateway_world import World, gateway_settings, seed_world, serve
from tests.integration.letters_desk import letter, park, poison

__all__ = ("gateway_settings",)
CHECKED: list[Any] = [
    of_response.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]


@pytest.fixture(scope="module")
def running(gateway_settings: Settings) -> Iterator[tuple[str, World]]:
    """`python -m gateway` on a free port, and what it serves."""

    async def ready() -> World:
        async with serve(gateway_settings) as served:
            world = World(served.settings, served.pool, served.app, served.http, served.watch)
            await seed_world(world)
            await park(world.pool, [letter(), letter(), poison()])
            return world

    world = asyncio.run(ready())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RUSHLINE_")},
        "RUSHLINE_HOME": "/nonexistent",
        "RUSHLINE_HTTP_PORT": str(port),
        "RUSHLINE_POSTGRES_DSN": gateway_settings.postgres_dsn,
        "RUSHLINE_AUDIT_READER_DSN": gateway_settings.audit_reader_url,
        "RUSHLINE_JWT_SECRET": gateway_settings.jwt_secret,
        "RUSHLINE_STRIPE_WEBHOOK_SECRET": "whsec_test",
    }
    with subprocess.Popen([sys.executable, "-m", "gateway"], env=environment) as process:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 30
        while True:
            try:
                assert httpx.get(f"{url}/readyz").status_code == 200
                break
            except httpx.TransportError:
                assert process.poll() is None, "the gateway ended"
                assert time.monotonic() < until
                time.sleep(0.05)
        yield url, world
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


@pytest.fixture(scope="module")
def document(running: tuple[str, World]) -> Any:
    return schemathesis.openapi.from_url(f"{running[0]}/schema/openapi.json")


def _who(world: World, path: str) -> dict[str, str]:
    for prefix, role, subject in (
        ("/v1/ops/", Role.OPERATOR, "ann"),
        ("/v1/support/", Role.SUPPORT, "sue"),
        ("/v1/restaurant/", Role.RESTAURANT, world.restaurant),
        ("/v1/driver/", Role.DRIVER, world.driver),
        ("/v1/", Role.CUSTOMER, world.customer),
    ):
        if path.startswith(prefix):
            return {"Authorization": f"Bearer {issue(world.settings, role, subject, timedelta(hours=1))}"}
    return {}


def _try(operation: Any, mode: Any, headers: dict[str, str]) -> int:
    """Returns how many of the bodies were wrong."""
    wrong = []

    @seed(20_261_123)
    @settings(max_examples=20, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        # Query parameters that are unknown are ignored, and of one that is repeated the last counts, as everywhere on the web.
        body = case.meta.components.get(ParameterLocation.BODY)
        strict = (
            [checks.negative_data_rejection] if body is not None and body.mode == schemathesis.GenerationMode.NEGATIVE else []
        )
        wrong.extend(strict)
        case.call_and_validate(headers=headers, checks=[*CHECKED, *strict])

    holds()
    return len(wrong)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_sent_the_answer_is_one_that_the_document_knows(
    document: Any, running: tuple[str, World], mode: Any
) -> None:
    tried, bodies, wrong = 0, 0, []
    for found in document.get_all_operations():
        operation = found.ok()
        try:
            bodies += _try(operation, mode, _who(running[1], operation.path))
            tried += 1
        except Unsatisfiable:  # an operation without parameters has nothing to be wrong
            continue
        except (AssertionError, BaseExceptionGroup) as error:
            wrong.append(f"{operation.label}: {error}")
    assert not wrong, "\n\n".join(wrong)
    assert tried > 15
    assert (bodies > 50) == (mode == schemathesis.GenerationMode.NEGATIVE)
