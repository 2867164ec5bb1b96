"""What the documents tell somebody to type exists: each `rushline dlq …` of theirs names verbs and options that are there."""

import re
import shlex

import click
import pytest

from console.dlq import dlq
from tests.making import REPOSITORY

_TYPED = re.compile(r"rushline dlq ([^`\n]*)")
LINES = sorted(
    {
        (str(path.relative_to(REPOSITORY)), found[1].strip())
        for path in (REPOSITORY / "docs").rglob("*.md")
        for found in _TYPED.finditer(path.read_text())
    }
)


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
