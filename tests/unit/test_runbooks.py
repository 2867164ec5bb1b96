"""Somebody at three in the morning finds a page for each failure and each alert, and every command on it exists."""

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import click
import pytest
from litestar import Litestar

from adapters.settings import Settings
from console.__main__ import main
from gateway.app import litestar_app
from orders.failures import CATEGORY, Category, FailureType
from orders.names import Command
from outbox import alerts, tier_watch
from outbox.letters import runbooks, stepping
from outbox.letters.library import shipped
from outbox.letters.model import Letter, LetterState, Source
from outbox.letters.runbooks import PAGES, runbook, runbook_of
from streams import archiving, checkpointing, courier
from tests.making import REPOSITORY
from workers import breakers

FOLDER = REPOSITORY / runbooks.FOLDER
SECTIONS = ("What it means.", "What the system has done.", "What to look at.", "What to decide.", "How to know it is over.")
NOW = datetime(2026, 3, 14, tzinfo=UTC)
ALERTS = (
    alerts.POISON, alerts.REFUND_PARKED, tier_watch.STUCK, tier_watch.UNTAKEN, tier_watch.BLIND, breakers.ALERT, courier.GAP,
    stepping.STOPPED, checkpointing.REFUSED, checkpointing.BROKEN, archiving.STUCK,
)  # fmt: skip
_CALL = re.compile(r"^    (rushline .+)$|`(rushline [^`\n]+(?:\n[^`\n]+)?)`", re.MULTILINE)
_ROUTE = re.compile(r"`(?:(GET|POST|PUT) )?(/v1/[^`\s]+)`")


def text_of(page: str) -> str:
    return (FOLDER / f"{page}.md").read_text()


@pytest.mark.parametrize("kind", [*FailureType, *ALERTS])
def test_each_failure_type_and_each_alert_has_its_page(kind: str) -> None:
    page = runbook(kind)
    assert page is not None
    assert (REPOSITORY / page).is_file()


def test_there_is_no_page_that_nobody_is_sent_to() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PAGES)
    assert runbook("weather") is None


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_it_means_what_was_done_what_to_look_at_what_to_decide_and_when_it_is_over(page: str) -> None:
    text = text_of(page)
    places = [text.find(f"**{section}**") for section in SECTIONS]
    assert places == sorted(places)
    assert -1 not in places
    assert text.startswith(f"# {page}\n")
    assert len(text.splitlines()) <= 35


def commands_in(page: str) -> list[list[str]]:
    return [(one or other).split() for one, other in _CALL.findall(text_of(page))]


@pytest.mark.parametrize("page", PAGES)
def test_each_command_on_a_page_exists_with_its_options(page: str) -> None:
    for words in commands_in(page):
        command: click.Command = main
        rest = words[1:]
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, words
            command, rest = found, rest[1:]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, words


@pytest.mark.parametrize("page", PAGES)
def test_each_rule_on_a_page_is_shipped_and_each_other_page_is_there(page: str) -> None:
    text, known = text_of(page), {rule.name for rule in shipped(NOW)}
    assert set(re.findall(r"library/[a-z-]+", text)) <= known
    assert all((FOLDER / name).is_file() for name in re.findall(r"\]\(([^)]+)\)", text))


@pytest.fixture(scope="module")
def app() -> Litestar:
    """The routes as they are served, and nothing behind them."""
    return litestar_app(SimpleNamespace(settings=Settings(jwt_secret="x" * 32)))  # type: ignore[arg-type]


@pytest.mark.parametrize("page", PAGES)
def test_each_route_on_a_page_is_served(app: Litestar, page: str) -> None:
    served = {(method, route.path) for route in app.routes for method in getattr(route, "methods", ())}
    assert served
    for method, path in _ROUTE.findall(text_of(page)):
        assert any(path == known and method in ("", verb) for verb, known in served), (method, path)


@pytest.mark.parametrize(
    ("changes", "page"),
    [
        ({}, "unknown"),
        ({"failure_type": FailureType.PAYMENT_TIMEOUT, "type": Command.PAYMENT_CHARGE.value}, "payment_timeout"),
        ({"failure_type": FailureType.PAYMENT_TIMEOUT, "type": Command.PAYMENT_REFUND.value}, "refund-parked"),
        ({"type": Command.PAYMENT_REFUND.value, "state": LetterState.RESOLVED}, "unknown"),
        ({"failure_type": FailureType.INVALID_MESSAGE, "category": Category.POISON}, "poison"),
        ({"source": Source.FACT}, "held-fact"),
        ({"source": Source.FACT, "category": Category.POISON}, "held-fact"),
        ({"source": Source.OUTBOX, "failure_type": FailureType.INVALID_MESSAGE}, "set-aside"),
        ({"source": Source.ORDER, "failure_type": FailureType.PAYMENT_DECLINED}, "payment_declined"),
    ],
)
def test_a_letter_leads_to_the_page_that_is_about_it(changes: dict[str, Any], page: str) -> None:
    failure = changes.get("failure_type", FailureType.UNKNOWN)
    known = {
        "letter_id": "let_1", "source": Source.COMMAND, "message_id": "cmd_1", "consumer": "payments", "queue": "orders.dlq",
        "order_id": None, "type": "order.cancel", "schema_version": 1, "position": None, "routing_key": "x", "priority": 0,
        "headers": {}, "body": b"", "failure_type": failure, "category": CATEGORY[failure], "reason": "x", "error": "x",
        "message": "", "stack": "", "fingerprint": "f", "attempts": 1, "generation": 1, "first_failed_at": NOW,
        "last_failed_at": NOW, "parked_at": NOW,
    }  # fmt: skip
    assert runbook_of(Letter(**{**known, **changes})) == f"docs/runbooks/{page}.md"  # type: ignore[arg-type]
