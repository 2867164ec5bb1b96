"""The only place for what the operators' routes share: identifiers in paths, and a change that may be only a rehearsal."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from adapters.postgres import Connection
from gateway.context import Gateway
from orders.errors import NotFound
from orders.ids import is_id
from outbox.letters.model import NoSuchGroup, NoSuchLetter
from outbox.letters.rehearsal import changing

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")


@asynccontextmanager
async def changed(gateway: Gateway, *, dry_run: bool) -> AsyncIterator[Connection]:
    """A connection for one change, which is its own transaction; one that is only tried is rolled back. Raises
    `DatabaseUnavailable`.
    """
    async with gateway.connection("the change cannot be written") as conn:
        if dry_run:
            async with changing(conn, dry_run=True):
                yield conn
        else:
            yield conn


def letter_of(text: str) -> str:
    """The letter's id in a path. Raises `NoSuchLetter` for anything that cannot be one."""
    if not is_id(text, "let"):
        raise NoSuchLetter("there is no such letter")
    return text


def fingerprint_of(text: str) -> str:
    """The group's fingerprint in a path. Raises `NoSuchGroup` for anything that cannot be one."""
    if not _FINGERPRINT.fullmatch(text):
        raise NoSuchGroup("there is no such group")
    return text


def replay_of(text: str) -> str:
    """The replay's id in a path. Raises `NotFound` for anything that cannot be one."""
    return _thing(text, "rpl", "replay")


def edit_of(text: str) -> str:
    """The edit's id in a path. Raises `NotFound` for anything that cannot be one."""
    return _thing(text, "edt", "edit")


def rule_id_of(text: str) -> str:
    """The rule's id in a path. Raises `NotFound` for anything that cannot be one."""
    return _thing(text, "rul", "rule")


def _thing(text: str, prefix: str, what: str) -> str:
    if not is_id(text, prefix):
        raise NotFound(f"there is no such {what}")
    return text
