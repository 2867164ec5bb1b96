"""The only place that takes a shortened id for the whole one, as long as it names one thing and no other."""

import re
from typing import Final, LiteralString

from adapters.postgres import Connection
from orders.errors import Refuse
from outbox.letters import abbreviated_sql as sql
from outbox.letters.editing import NoSuchEdit
from outbox.letters.model import NoSuchGroup, NoSuchLetter
from outbox.letters.replays import NoSuchReplay

_SHORTEST: Final = 4
_SHOWN: Final = 5
_WORD: Final = re.compile(r"[0-9a-f-]+")


class Ambiguous(Refuse):
    """Several things begin like this."""

    slug = "ambiguous"


async def letter_named(conn: Connection, text: str) -> str:
    """A letter's id by its beginning, with `let_` or without. Raises `NoSuchLetter`, `Ambiguous`."""
    return await _named(conn, sql.LETTERS, "let_", text, NoSuchLetter(f"there is no letter {text}"))


async def group_named(conn: Connection, text: str) -> str:
    """A group's fingerprint by its beginning. Raises `NoSuchGroup`, `Ambiguous`."""
    return await _named(conn, sql.GROUPS, "", text, NoSuchGroup(f"there is no group {text}"))


async def edit_named(conn: Connection, text: str) -> str:
    """An edit's id by its beginning, with `edt_` or without. Raises `NoSuchEdit`, `Ambiguous`."""
    return await _named(conn, sql.EDITS, "edt_", text, NoSuchEdit(f"there is no edit {text}"))


async def replay_named(conn: Connection, text: str) -> str:
    """A replay's id by its beginning, with `rpl_` or without. Raises `NoSuchReplay`, `Ambiguous`."""
    return await _named(conn, sql.REPLAYS, "rpl_", text, NoSuchReplay(f"there is no replay {text}"))


async def _named(conn: Connection, statement: LiteralString, prefix: str, text: str, missing: Refuse) -> str:
    word = text.strip().lower().removeprefix(prefix)
    if not _WORD.fullmatch(word):
        raise missing
    if len(word) < _SHORTEST:
        raise Ambiguous(f"{text} is too short to name one thing: give at least {_SHORTEST} digits of its id")
    found = [record["name"] for record in await conn.fetch(statement, prefix + word, _SHOWN + 1)]
    if not found:
        raise missing
    if len(found) > 1:
        more = " and more" if len(found) > _SHOWN else ""
        raise Ambiguous(f"{text} may be {', '.join(found[:_SHOWN])}{more}: give more of its id")
    return str(found[0])
