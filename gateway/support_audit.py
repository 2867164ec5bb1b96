"""The routes on the audit trail as a whole: search it. For support and auditors."""

from typing import Final

from litestar import get

from gateway import support_search
from gateway.auth import only
from gateway.context import Gate, HttpRequest
from gateway.docs import problems
from gateway.paging import Cursor, Limit, cursor_at
from gateway.support_answers import AuditEntries, audit_entry
from gateway.support_filters import AUDIT, AuditWanted
from gateway.support_looks import searched
from orders.names import Act, Role


@get("/audit", dependencies=AUDIT, guards=[only(Role.SUPPORT, Role.AUDITOR)], responses=problems())
async def search_audit(
    request: HttpRequest, gateway: Gate, wanted: AuditWanted, limit: Limit = 20, cursor: Cursor = None
) -> AuditEntries:
    """Audit events, newest first: who did or looked at what. What is personal stays encrypted. The search is itself recorded."""
    async with gateway.reading("the audit trail cannot be searched") as conn:
        page = await support_search.audit(conn, wanted, cursor=cursor, limit=limit)
    await searched(gateway, request, Act.AUDIT_SEARCHED, wanted)
    following = cursor_at(page[-1]["occurred_at"], str(page[-1]["leaf_index"])) if len(page) == limit else None
    return AuditEntries(events=[audit_entry(row) for row in page], next_cursor=following)


ROUTES: Final = (search_audit,)
