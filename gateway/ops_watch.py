"""The routes that show what somebody must look at: alerts, and what waits to be published."""

from typing import Final

from litestar import get

from gateway.context import Gate
from gateway.docs import problems
from gateway.ops_answers import Alerts, LaneAnswer, Outbox, alert_of, shown
from outbox.alerts import open_alerts
from outbox.status import lane_statuses


@get("/alerts", responses=problems())
async def list_alerts(gateway: Gate) -> Alerts:
    """What is not over, newest first."""
    async with gateway.connection("the alerts cannot be read") as conn:
        return Alerts(alerts=[alert_of(alert) for alert in await open_alerts(conn)])


@get("/outbox", responses=problems())
async def show_outbox(gateway: Gate) -> Outbox:
    """What waits to be published, per lane."""
    async with gateway.connection("the outbox cannot be read") as conn:
        return Outbox(lanes=[shown(LaneAnswer, lane) for lane in await lane_statuses(conn)])


ROUTES: Final = (list_alerts, show_outbox)
