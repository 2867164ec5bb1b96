"""The routes on the audit trail as a whole: search it. For support and auditors."""

from typing import Final

from litestar import get

from gateway import support_search
from gateway.auth import only
from gateway.context import Gate, HttpRequest
from gateway.docs import problems
from gateway.paging import Cursor, Limit, cursor_at
from gateway.support_answers import AuditEntries, archived_entry, audit_entry
from gateway.support_filters import AUDIT, AuditWanted
from gateway.support_looks import searched
from orders.names import Act, Role


@get("/audit", dependencies=AUDIT, guards=[only(Role.SUPPORT, Role.AUDITOR)], responses=problems())
async def search_audit(
    request: HttpRequest, gateway: Gate, wanted: AuditWanted, limit: Limit = 20, cursor: Cursor = None
) -> AuditEntries:
    """Audit events, newest first: who did or looked at what. What is personal stays encrypted. The search is itself recorded."""
    async with gateway.reading("the audit trail cannot be searched") as conn:
        found = {
            row["leaf_index"]: audit_entry(row) for row in await support_search.audit(conn, wanted, cursor=cursor, limit=limit)
        }
    missing: list[str] = []
    if gateway.archive is not None:
        floor = min(each.occurred_at for each in found.values()) if len(found) == limit else None
        older = await support_search.archived(gateway.archive, wanted, cursor=cursor, limit=limit, floor=floor)
        found |= {event.leaf_index: archived_entry(event) for event in older.events}
        missing = older.missing
    await searched(gateway, request, Act.AUDIT_SEARCHED, wanted)
    page = sorted(found.values(), key=lambda each: (each.occurred_at, each.leaf_index), reverse=True)[:limit]
    following = cursor_at(page[-1].occurred_at, str(page[-1].leaf_index)) if len(page) == limit else None
    return AuditEntries(events=page, next_cursor=following, missing=missing)


ROUTES: Final = (search_audit,)
