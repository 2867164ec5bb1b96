"""The only place that says how full the outbox is: depth, oldest age and rows set aside, per lane."""

import msgspec

from adapters.postgres import Connection, Pool
from outbox import sql


class LaneStatus(msgspec.Struct, frozen=True):
    """One lane. `oldest_s`: age in seconds of the row that has waited longest, 0 where none waits."""

    lane: str
    depth: int
    oldest_s: float
    set_aside: int


async def lane_statuses(db: "Connection | Pool") -> list[LaneStatus]:
    """Both lanes, RabbitMQ first."""
    return [LaneStatus(*record) for record in await db.fetch(sql.STATUS)]
