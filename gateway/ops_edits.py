"""The routes that edit a message before it is sent again, with a second person's word where money moves."""

from typing import Annotated, Final

from litestar import get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from adapters.postgres import Connection
from gateway.bodies import Json
from gateway.context import Gate, HttpRequest
from gateway.docs import problems
from gateway.ops_answers import EditAnswer, Edits, edit_answer
from gateway.ops_desk import changed, edit_of, letter_of
from gateway.ops_filter import DryRun
from gateway.ops_schemas import EditLetter, RefuseEdit
from gateway.paging import Cursor, Limit, after_time, cursor_at
from orders.errors import Invalid
from outbox.letters import editing, patching
from outbox.letters.editing import EditState

_LETTER: Final = "/dead-letters/{letter_id:str}/edit"


@post(_LETTER, dto=Json[EditLetter], status_code=200, responses=problems(404, 409, 413, 415))
async def edit_letter(
    request: HttpRequest, gateway: Gate, letter_id: FromPath[str], data: JSONBody[EditLetter], *, dry_run: DryRun = False
) -> EditAnswer:
    """Send the message with another body. The original is kept. What moves money waits for a second person: `waiting`."""
    async with gateway.connection("the edit cannot be written") as conn:
        body = await _edited(conn, letter_of(letter_id), data)
        edit = await editing.propose(
            conn, letter_id, body, reason=data.reason, actor=request.user.id, version=data.version, now=gateway.now(),
            dry_run=dry_run,
        )  # fmt: skip
    return edit_answer(edit)


async def _edited(conn: Connection, letter_id: str, data: EditLetter) -> bytes:
    if (data.text is None) == (data.patch is None):
        raise Invalid("text", "give either all of the body as text, or what differs as patch")
    if data.text is not None:
        return data.text.encode()
    patching.check(data.patch, "patch")
    return patching.patched(await editing.latest_body(conn, letter_id), data.patch)


@get("/edits", responses=problems())
async def list_edits(
    gateway: Gate,
    edit_state: Annotated[EditState | None, QueryParameter(name="state", description="`waiting`: for a second person.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Edits:
    """Edits, newest first."""
    before = after_time(cursor) if cursor is not None else None
    async with gateway.connection("the edits cannot be read") as conn:
        page = await editing.list_edits(conn, state=edit_state, before=before, limit=limit)
    following = cursor_at(page[-1].proposed_at, page[-1].edit_id) if len(page) == limit else None
    return Edits(edits=[edit_answer(edit) for edit in page], next_cursor=following)


@get("/edits/{edit_id:str}", responses=problems(404))
async def show_edit(gateway: Gate, edit_id: FromPath[str]) -> EditAnswer:
    """An edit: what it changes, who proposed it, who decided."""
    async with gateway.connection("the edit cannot be read") as conn:
        return edit_answer(await editing.show(conn, edit_of(edit_id)))


@post("/edits/{edit_id:str}/approve", status_code=200, responses=problems(404, 409))
async def approve_edit(request: HttpRequest, gateway: Gate, edit_id: FromPath[str], *, dry_run: DryRun = False) -> EditAnswer:
    """The second person's word: it is sent. Whoever proposed it cannot approve it."""
    async with gateway.connection("the edit cannot be written") as conn:
        edit = await editing.approve(conn, edit_of(edit_id), actor=request.user.id, now=gateway.now(), dry_run=dry_run)
    return edit_answer(edit)


@post("/edits/{edit_id:str}/refuse", dto=Json[RefuseEdit], status_code=200, responses=problems(404, 409, 413, 415))
async def refuse_edit(
    request: HttpRequest, gateway: Gate, edit_id: FromPath[str], data: JSONBody[RefuseEdit], *, dry_run: DryRun = False
) -> EditAnswer:
    """It is not sent; the letter stays open."""
    async with changed(gateway, dry_run=dry_run) as conn:
        edit = await editing.refuse(conn, edit_of(edit_id), reason=data.reason, actor=request.user.id, now=gateway.now())
    return edit_answer(edit)


ROUTES: Final = (edit_letter, list_edits, show_edit, approve_edit, refuse_edit)
