"""The example of docs/audit-format.md, verified by a program that was written from that page alone, in another language."""

from pathlib import Path

import pytest

from tests.audit_example import shown
from tests.go import built, run

pytestmark = pytest.mark.timeout(600)  # the first build fetches and compiles
PAGE = shown()


def _files(folder: Path, export: str) -> tuple[Path, Path]:
    lines, proofs = folder / "order.jsonl", folder / "order.tlog-proof"
    lines.write_text(export)
    proofs.write_text(PAGE["proofs"])
    return lines, proofs


def test_the_pages_example_is_whole(tmp_path: Path) -> None:
    said = run(built("verify"), "export", PAGE["vkey"].strip(), *_files(tmp_path, PAGE["export"]))
    assert said == "3 events, 2 chains\n"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"total":3200', '"total":1200', "line 1: was edited"),
        ('"position":2', '"position":3', "line 2: was edited"),
        ('"action":"order.viewed"', '"action":"order.edited"', "line 3: was edited"),
    ],
)
def test_an_edited_example_is_refused_at_its_line(tmp_path: Path, before: str, after: str, words: str) -> None:
    export = PAGE["export"].replace(before, after)
    assert words in run(built("verify"), "export", PAGE["vkey"].strip(), *_files(tmp_path, export), status=1)


def test_a_line_less_is_refused(tmp_path: Path) -> None:
    export = PAGE["export"].split("\n", 1)[1]
    assert "2 events and 3 proofs" in run(built("verify"), "export", PAGE["vkey"].strip(), *_files(tmp_path, export), status=1)
