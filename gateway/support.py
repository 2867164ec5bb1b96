"""Support's routes: search, investigations, disputes, the audit trail. For the role `support`; some also for `auditor`.

Every look is recorded in the audit trail before it is answered, and a read that cannot be recorded is not answered.
"""

from typing import Final

from litestar import Router

from gateway import support_audit, support_disputes, support_orders

_ROUTES: Final = (*support_orders.ROUTES, *support_disputes.ROUTES, *support_audit.ROUTES)

router = Router("/v1/support", route_handlers=list(_ROUTES), tags=["support"])
