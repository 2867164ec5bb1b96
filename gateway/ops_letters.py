"""The routes that show failed messages: a page of them, their groups, one with all that is known of it, its bytes."""

from typing import Annotated, Final

from litestar import Response, get
from litestar.datastructures import ResponseHeader
from litestar.params import FromPath, QueryParameter

from gateway.context import Gate, HttpRequest
from gateway.docs import problems
from gateway.ops_answers import CountAnswer, GroupAnswer, Groups, Letters, group_of, shown, summary_of
from gateway.ops_desk import fingerprint_of, letter_of
from gateway.ops_detail import LetterDetail, detail_of
from gateway.ops_filter import WANTED, Wanted
from gateway.paging import Cursor, Limit
from outbox.letters import desk, search

_BYTES: Final = "application/octet-stream"


@get("/dead-letters", dependencies=WANTED, responses=problems())
async def list_letters(gateway: Gate, wanted: Wanted, limit: Limit = 20, cursor: Cursor = None) -> Letters:
    """Failed messages, the latest failure first."""
    async with gateway.connection("the letters cannot be read") as conn:
        page = await search.find(conn, wanted, cursor=cursor, limit=limit)
        count = await search.count(conn, wanted)
    letters = [summary_of(letter) for letter in page.letters]
    return Letters(letters=letters, next_cursor=page.next, count=shown(CountAnswer, count))


@get("/dead-letters/groups", responses=problems())
async def list_groups(
    gateway: Gate,
    every: Annotated[bool, QueryParameter(name="all", description="Also groups without an open letter.")] = False,  # noqa: FBT002
    snoozed: Annotated[bool, QueryParameter(description="Also groups that are snoozed.")] = False,  # noqa: FBT002
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Groups:
    """Failed messages by kind, the kind with the most open letters first."""
    async with gateway.connection("the groups cannot be read") as conn:
        page = await search.groups(conn, open_only=not every, snoozed=snoozed, cursor=cursor, limit=limit)
    return Groups(groups=[group_of(group) for group in page.groups], next_cursor=page.next)


@get("/dead-letters/groups/{fingerprint:str}", responses=problems(404))
async def show_group(gateway: Gate, fingerprint: FromPath[str]) -> GroupAnswer:
    """Letters of one kind, counted."""
    async with gateway.connection("the group cannot be read") as conn:
        return group_of(await search.group(conn, fingerprint_of(fingerprint)))


@get("/dead-letters/{letter_id:str}", responses=problems(404))
async def show_letter(request: HttpRequest, gateway: Gate, letter_id: FromPath[str]) -> LetterDetail:
    """A failed message with all that is known of it. A long body is cut; all of it is at …/body. The look is recorded."""
    async with gateway.transaction("the letter cannot be read") as conn:
        found = await search.show(conn, letter_of(letter_id))
        letter, who = found.letter, request.user.id
        await desk.viewed(conn, letter.letter_id, letter.order_id, part="detail", actor=who, now=gateway.now())
    return detail_of(found)


@get(
    "/dead-letters/{letter_id:str}/body",
    media_type=_BYTES,
    responses=problems(404),
    response_headers=[ResponseHeader(name="Content-Disposition", documentation_only=True, description="An attachment.")],
)
async def letter_body(request: HttpRequest, gateway: Gate, letter_id: FromPath[str]) -> Response[bytes]:
    """The bytes of the message as they were sent. Whatever they are, they are to be saved, not to be shown. The look is recorded."""
    async with gateway.transaction("the letter cannot be read") as conn:
        letter = (await search.show(conn, letter_of(letter_id))).letter
        who = request.user.id
        await desk.viewed(conn, letter.letter_id, letter.order_id, part="body", actor=who, now=gateway.now())
    headers = {
        "Content-Disposition": f'attachment; filename="{letter.letter_id}.bin"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-store",
    }
    return Response(letter.body, media_type=_BYTES, headers=headers)


ROUTES: Final = (list_letters, list_groups, show_group, show_letter, letter_body)
