"""The tree stays small, documented, layered and portable: held here, so that no review need say it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.making import REPOSITORY
from tests.pages import PAGES

PACKAGES: Final = (
    "adapters", "audit", "bench", "console", "gateway", "orders", "outbox", "simulation", "stack", "streams", "workers",
)  # fmt: skip
MODULES: Final = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
TEXTS: Final = frozenset({".py", ".sql", ".md", ".toml", ".json", ".yaml", ".yml", ".html", ".css", ".sh", ""})
LONGEST_MODULE: Final = 300
LONGEST_FUNCTION: Final = 40
# Spelled in parts, so that this file does not hold what it looks for.
UNFINISHED: Final = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")
MACHINE: Final = re.compile(
    r"/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "Us" + "ers")) + r")/\w|/ho" + r"me/[a-z]+/|(?<!docker)\.int" + r"ernal\b"
)
PUBLISHING: Final = frozenset({"Publisher", "Producer", "open_publisher", "open_producer"})
# The relay's lanes, the workers' moves, the roots that hand each its connection, and what is measured about them.
MAY_PUBLISH: Final = frozenset(
    {"outbox/__main__.py", "outbox/lanes.py", "workers/__main__.py", "workers/moves.py", "bench/tiers.py", "bench/failures.py"}
)


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _kept() -> tuple[Path, ...]:
    """Every text that is committed, or would be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    paths = (REPOSITORY / name for name in listed.split("\0") if name)
    return tuple(path for path in paths if path.is_file() and path.suffix in TEXTS and "vendor" not in path.parts)


def _lines(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in _kept():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if pattern.search(line):
                yield f"{_name(path)}:{number}: {line.strip()[:120]}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_is_short_and_so_are_its_functions(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines < LONGEST_MODULE, f"{_name(path)} has {lines} lines"
    functions = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f"{node.name}, line {node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length >= LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("path", [path for path in MODULES if path.read_text().strip()], ids=_name)
def test_a_module_says_in_its_docstring_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(_tree(path)), f"{_name(path)} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_a_package(package: str) -> None:
    assert (REPOSITORY / package / "__init__.py").is_file()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_made_from_code_is_the_one_that_the_code_makes(name: str) -> None:
    page = (REPOSITORY / "docs" / name).read_text()
    assert page == PAGES[name](), f"docs/{name} is old: run `.venv/bin/python -m tests.pages` and look at the difference"


def test_nothing_is_left_for_later() -> None:
    assert list(_lines(UNFINISHED)) == []


def test_nothing_names_the_machine_it_was_written_on() -> None:
    assert list(_lines(MACHINE)) == []


def test_every_import_keeps_to_the_layers() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_relay_and_the_workers_moves_can_publish() -> None:
    importing = {
        _name(path)
        for path in MODULES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ImportFrom)
        and node.module in {"adapters.rabbitmq", "adapters.kafka"}
        and PUBLISHING & {alias.name for alias in node.names}
    }
    assert importing <= MAY_PUBLISH
    whole = {
        _name(path)
        for path in MODULES
        for node in ast.walk(_tree(path))
        for alias in getattr(node, "names", ())
        if (isinstance(node, ast.Import) and alias.name in {"adapters.rabbitmq", "adapters.kafka"})
        or (isinstance(node, ast.ImportFrom) and node.module == "adapters" and alias.name in {"rabbitmq", "kafka"})
    }
    assert whole == set()


def test_no_test_is_skipped() -> None:
    forbidden = re.compile(r"pytest\.sk" + r"ip|mark\.sk" + r"ip|mark\.x" + r"fail|unittest" + r"\.mock")
    assert [line for line in _lines(forbidden) if line.startswith("tests/")] == []
