"""The only place that shows what an automatic fix did: each use, and what became of the letter since."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable
from outbox.letters import uses_sql as sql
from outbox.letters.model import LetterState
from outbox.letters.waiting import Used
from outbox.transition import Executor


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One use of a rule. `generation`: which failure of the letter it was for. `state`: of the letter now."""

    letter_id: str
    generation: int
    at: datetime
    outcome: str
    type: str
    order_id: str | None
    state: LetterState


async def of_rule(db: Executor, rule_id: str, *, before: tuple[datetime, str] | None = None, limit: int = 50) -> list[Use]:
    """Uses, the latest first; `before` is the `at` and `letter_id` of the last one that was seen. Raises `DatabaseUnavailable`."""
    at, letter_id = before or (None, None)
    try:
        return [msgspec.convert(dict(row), Use) for row in await db.fetch(sql.OF_RULE, rule_id, at, letter_id, limit)]
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the uses cannot be read: {error}") from error


async def on_letters(conn: Connection, letter_ids: Collection[str]) -> dict[tuple[str, str], Used]:
    """How each rule (the second key) was used on each of these letters (the first), in the caller's transaction."""
    records = await conn.fetch(sql.ON_LETTERS, list(letter_ids)) if letter_ids else []
    return {(record["letter_id"], record["rule_id"]): Used(record["times"], record["outcome"]) for record in records}
