"""The only place that loads, makes and destroys the customers' keys, with which what is personal in the audit trail is encrypted."""

from datetime import datetime

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Executor
from orders.errors import NotFound
from orders.privacy import Erased, PersonalKey, new_key
from outbox import personal_keys_sql as sql


async def key_of(db: Executor, customer_id: str) -> PersonalKey:
    """The customer's key, made where there is none. Two that are made at once are both good: each event names its own."""
    try:
        row = await db.fetchrow(sql.LIVING, customer_id)
        if row is not None:
            return PersonalKey(row["key_id"], row["key"])
        made = new_key()
        await db.execute(sql.ADD, made.key_id, customer_id, made.key)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the customer's key cannot be read: {error}") from error
    return made


async def find(db: Executor, key_id: str) -> PersonalKey:
    """The key with this id. Raises `Erased` where it was destroyed, `NotFound`, `DatabaseUnavailable`."""
    try:
        row = await db.fetchrow(sql.FIND, key_id)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the key cannot be read: {error}") from error
    if row is None:
        raise NotFound(f"there is no key {key_id}")
    if row["key"] is None:
        raise Erased(f"the key {key_id} was destroyed at {row['destroyed_at'].isoformat()}: nobody can read what it encrypted")
    return PersonalKey(row["key_id"], row["key"])


async def destroy(conn: Connection, customer_id: str, now: datetime) -> list[str]:
    """Destroy all keys of a customer, in the caller's transaction; the ids of those that lived until now."""
    return [row["key_id"] for row in await conn.fetch(sql.DESTROY, customer_id, now)]
