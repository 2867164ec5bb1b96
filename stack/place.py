"""The only place that knows where a stack keeps things: everything under `var/` of its home, downloads in a shared cache."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stack.errors import DiskFullError, StackError
from stack.processes import Process

SERVERS: Final = ("postgres", "rabbitmq", "kafka")
_REPOSITORY: Final = Path(__file__).resolve().parent.parent
_ROOM_BYTES: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """One stack's home. Stacks side by side have different homes and share what was downloaded."""

    home: Path
    cache: Path

    @classmethod
    def of(cls, home: Path, cache: Path | None = None) -> "Place":
        home = home.resolve()
        return cls(home, cache.resolve() if cache else _shared_cache(home))

    @property
    def var(self) -> Path:
        return self.home / "var"

    @property
    def local_env(self) -> Path:
        return self.var / "local.env"

    @property
    def secrets(self) -> Path:
        return self.var / "secrets.json"

    @property
    def remembered(self) -> Path:
        return self.var / "stack.json"

    @property
    def lock(self) -> Path:
        return self.var / "stack.lock"

    def folder(self, server: str) -> Path:
        return self.var / server

    def process(self, name: str) -> Process:
        return Process(name=name, pid_file=self.var / "run" / f"{name}.pid", log=self.var / "log" / f"{name}.log")

    def prepare(self) -> None:
        """Make the folders; refuse a disk on which the servers would soon fail in worse ways."""
        try:
            for folder in (self.var / "run", self.var / "log", self.cache):
                folder.mkdir(parents=True, exist_ok=True)
            self.lock.touch()
        except OSError as error:
            raise StackError(
                f"{error.filename} cannot be written: {error.strerror}.",
                "Give the folder to this user, or set RUSHLINE_HOME to a folder that this user may write.",
            ) from error
        free = shutil.disk_usage(self.var).free
        if free < _ROOM_BYTES:
            raise DiskFullError(
                f"Only {free / 1e6:.0f} MB are free where {self.var} is; the three servers need 1 GB.",
                "Make room, or set RUSHLINE_HOME to a folder on another disk.",
            )


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that only its owner may read, never leaving half of one."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    draft.replace(path)


def _shared_cache(home: Path) -> Path:
    """Beside the code, for all homes; a user who may not write there uses what is there already, or a cache of its own."""
    mine = _REPOSITORY / "var" / "cache"
    existing = next(folder for folder in (mine, *mine.parents) if folder.exists())
    filled = mine.is_dir() and any(mine.glob("kafka-*/"))
    return mine if filled or os.access(existing, os.W_OK) else home / "var" / "cache"
