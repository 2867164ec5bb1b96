"""The only place that puts on record that somebody was granted a role: who, to whom, which, for how long."""

import getpass
from datetime import UTC, datetime, timedelta

from adapters.postgres import connect, transaction
from adapters.settings import Settings
from orders.decide import Cause
from orders.facts import Actor
from orders.names import Act, Role
from outbox.deeds import Deed, desk_of, record


async def granted(settings: Settings, role: Role, subject: str, lifetime: timedelta) -> None:
    """Record it. Raises `DatabaseUnavailable`, `PostgresError`: then nothing must be granted."""
    who, now = _user(), datetime.now(UTC)
    details = {"role": role.value, "sub": subject, "lifetime_s": int(lifetime.total_seconds())}
    deed = Deed(act=Act.ROLE_GRANTED, chain=desk_of(f"{Role.OPERATOR.value}:{who}"), details=details)
    cause = Cause(id=f"grant/{role.value}/{subject}/{now.isoformat()}", actor=Actor(Role.OPERATOR, who), service="console")
    async with connect(settings.postgres_dsn, service="console") as conn, transaction(conn) as within:
        await record(within, [deed], cause, now)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return "unknown"
