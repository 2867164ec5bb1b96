"""The operators' routes: failed messages, replays, edits, automatic fixes, alerts, the outbox. For the role `operator` alone.

Bodies of messages hold addresses of people: nobody else sees them, and they are never logged. Who acts is the token's subject.
"""

from typing import Final

from litestar import Router

from gateway import ops_acts, ops_edits, ops_letters, ops_replays, ops_rules, ops_watch
from gateway.auth import only
from orders.names import Role

_ROUTES: Final = (
    *ops_letters.ROUTES, *ops_acts.ROUTES, *ops_edits.ROUTES, *ops_replays.ROUTES,
    *ops_rules.ROUTES, *ops_watch.ROUTES,
)  # fmt: skip

router = Router("/v1/ops", route_handlers=list(_ROUTES), guards=[only(Role.OPERATOR)], tags=["operators"])
