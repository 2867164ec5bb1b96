"""What the documents tell somebody to type exists: each `rushline dlq …` of theirs names verbs and options that are there."""

import re
import shlex
from datetime import timedelta

import click
import pytest

from console.dlq import dlq
from outbox.letters.refusals import check
from outbox.letters.rules import read_rule
from tests.making import REPOSITORY

_TYPED = re.compile(r"rushline dlq ([^`\n]*)")
LINES = sorted(
    {
        (str(path.relative_to(REPOSITORY)), found[1].strip())
        for path in (REPOSITORY / "docs").rglob("*.md")
        for found in _TYPED.finditer(path.read_text())
    }
)


def test_the_rule_that_the_page_shows_is_one_that_is_taken() -> None:
    shown = re.findall(r"```json\n(.*?)```", (REPOSITORY / "docs" / "dead-letters.md").read_text(), re.DOTALL)
    rules = [read_rule(text.encode()) for text in shown]
    assert rules
    for rule in rules:
        check(rule, rule.expires_at - timedelta(days=30))


def test_the_documents_name_commands() -> None:
    assert len(LINES) > 10


@pytest.mark.parametrize(("page", "typed"), LINES)
def test_a_command_of_the_documents_is_one(page: str, typed: str) -> None:
    command: click.Command = dlq
    words = shlex.split(typed, comments=True)
    while isinstance(command, click.Group) and words:
        name = words.pop(0)
        assert name in command.commands, f"{page}: rushline dlq {typed}: there is no `{name}`"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    for word in words:
        if word.startswith("--"):
            assert word in known, f"{page}: rushline dlq {typed}: there is no {word}"
