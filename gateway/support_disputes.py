"""The routes of disputes: open one, list them, say whose it is, bring something forward, resolve it."""

from typing import Final

from litestar import get, post
from litestar.params import FromPath, JSONBody

from adapters.postgres import Connection
from gateway import support_sql as sql
from gateway.auth import only
from gateway.bodies import Json
from gateway.context import Gate, Gateway, HttpRequest, cause_of, order_id_of
from gateway.docs import problems
from gateway.paging import Cursor, Limit, after_order, cursor_at
from gateway.support_answers import (
    DisputeAnswer,
    Disputes,
    EvidenceAnswer,
    dispute_answer,
    evidence_answer,
    keys_named,
)
from gateway.support_filters import DISPUTES, DisputesWanted
from gateway.support_looks import record, searching
from gateway.support_schemas import AddEvidence, AssignDispute, OpenDispute, ResolveDispute, evidence_of
from orders.ids import is_id
from orders.names import Act, Role
from outbox import disputes
from outbox.disputes import Dispute, NoSuchDispute

_PROBLEMS: Final = problems(404, 409, 413, 415)
_SUPPORT: Final = [only(Role.SUPPORT)]


def dispute_of(text: str) -> str:
    """The dispute's id in a path. Raises `NoSuchDispute` for anything that cannot be one."""
    if not is_id(text, "dsp"):
        raise NoSuchDispute("there is no such dispute")
    return text


@post(
    "/orders/{order_id:str}/disputes", dto=Json[OpenDispute], guards=_SUPPORT, status_code=201, responses=_PROBLEMS
)  # fmt: skip
async def open_dispute(
    request: HttpRequest, gateway: Gate, order_id: FromPath[str], data: JSONBody[OpenDispute]
) -> DisputeAnswer:
    """Open a dispute of an order that has ended. One at a time."""
    opened = await disputes.open_dispute(
        gateway.pool, order_id_of(order_id), data.kind, data.claim, cause_of(request), gateway.wait, gateway.now()
    )
    return await _answer(gateway, opened)


@get("/disputes", dependencies=DISPUTES, guards=_SUPPORT, responses=problems())
async def list_disputes(
    request: HttpRequest, gateway: Gate, wanted: DisputesWanted, limit: Limit = 20, cursor: Cursor = None
) -> Disputes:
    """Disputes, newest first, with what people said in them. The search is recorded."""
    async with gateway.transaction("the disputes cannot be read") as conn:
        page = await disputes.list_disputes(conn, wanted, before=after_order(cursor), limit=limit)
        await record(conn, gateway, request, searching(request, Act.DISPUTES_SEARCHED, wanted))
        answers = await _answers(conn, page)
    following = cursor_at(page[-1].opened_at, page[-1].dispute_id) if len(page) == limit else None
    return Disputes(disputes=answers, next_cursor=following)


@post("/disputes/{dispute_id:str}/assignment", dto=Json[AssignDispute], guards=_SUPPORT, status_code=200, responses=_PROBLEMS)
async def assign_dispute(
    request: HttpRequest, gateway: Gate, dispute_id: FromPath[str], data: JSONBody[AssignDispute]
) -> DisputeAnswer:
    """Say who looks after it."""
    assigned = await disputes.assign(
        gateway.pool, dispute_of(dispute_id), data.to, cause_of(request), gateway.wait, gateway.now(), data.version
    )
    return await _answer(gateway, assigned)


@post("/disputes/{dispute_id:str}/evidence", dto=Json[AddEvidence], guards=_SUPPORT, status_code=201, responses=_PROBLEMS)
async def add_evidence(
    request: HttpRequest, gateway: Gate, dispute_id: FromPath[str], data: JSONBody[AddEvidence]
) -> EvidenceAnswer:
    """Bring something forward, until it is resolved."""
    said, digest = evidence_of(data)
    added = await disputes.attach(
        gateway.pool, dispute_of(dispute_id), said, digest, cause_of(request), gateway.wait, gateway.now()
    )
    async with gateway.connection("the evidence cannot be read") as conn:
        named = [added.personal["key_id"]] if added.personal else []
        return evidence_answer(added, {row["key_id"]: row["key"] for row in await conn.fetch(sql.KEYS, named)})


@post("/disputes/{dispute_id:str}/resolution", dto=Json[ResolveDispute], guards=_SUPPORT, status_code=200, responses=_PROBLEMS)
async def resolve_dispute(
    request: HttpRequest, gateway: Gate, dispute_id: FromPath[str], data: JSONBody[ResolveDispute]
) -> DisputeAnswer:
    """Give money back, all that is due or an amount, or refuse with a reason. The customer is told; it is not resolved twice."""
    data.check()
    where, cause, now = dispute_of(dispute_id), cause_of(request), gateway.now()
    if data.reason is not None:
        resolved = await disputes.refuse(gateway.pool, where, data.reason, data.note, cause, gateway.wait, now, data.version)
    else:
        resolved = await disputes.refund(gateway.pool, where, data.amount, data.note, cause, gateway.wait, now, data.version)
    return await _answer(gateway, resolved)


async def _answer(gateway: Gateway, dispute: Dispute) -> DisputeAnswer:
    async with gateway.connection("the dispute cannot be read") as conn:
        (answer,) = await _answers(conn, [dispute])
    return answer


async def _answers(conn: Connection, page: list[Dispute]) -> list[DisputeAnswer]:
    brought = await disputes.evidence(conn, [each.dispute_id for each in page])
    keys = {row["key_id"]: row["key"] for row in await conn.fetch(sql.KEYS, keys_named(page, brought))}
    return [dispute_answer(each, brought, keys) for each in page]


ROUTES: Final = (open_dispute, list_disputes, assign_dispute, add_evidence, resolve_dispute)
