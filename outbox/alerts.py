"""The only place that raises and clears alerts: what somebody must look at now, once per subject, until it is over."""

from datetime import datetime
from typing import Final

import msgspec

from adapters.postgres import UNAVAILABLE, DatabaseUnavailable, Executor
from outbox import alerts_sql, metrics

POISON: Final = "poison"  # subject: the fingerprint of a group
REFUND_PARKED: Final = "refund-parked"  # subject: the letter
_LONGEST: Final = 500


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody must look at. `times`: how often it was raised since `raised_at`."""

    kind: str
    subject: str
    detail: str
    times: int
    raised_at: datetime
    last_at: datetime


async def raise_alert(db: Executor, kind: str, subject: str, detail: str, now: datetime) -> None:
    """Raise it, or count it once more. One that was cleared begins anew. Raises `DatabaseUnavailable`."""
    try:
        await db.execute(alerts_sql.RAISE, kind, subject, detail[:_LONGEST], now)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the alert {kind} cannot be raised: {error}") from error
    metrics.ALERTS.labels(kind).inc()


async def clear_alert(db: Executor, kind: str, subject: str, now: datetime) -> None:
    """It is over. Nothing where it is not open. Raises `DatabaseUnavailable`."""
    try:
        await db.execute(alerts_sql.CLEAR, kind, subject, now)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the alert {kind} cannot be cleared: {error}") from error


async def open_alerts(db: Executor) -> list[Alert]:
    """What is not over, the newest first. Raises `DatabaseUnavailable`."""
    try:
        return [msgspec.convert(dict(row), Alert) for row in await db.fetch(alerts_sql.OPEN)]
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the alerts cannot be read: {error}") from error
