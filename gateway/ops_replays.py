"""The routes that send many letters again, canary first, and those that discard many."""

from typing import Annotated, Final, Literal

from litestar import get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from gateway.bodies import Json
from gateway.context import Gate, HttpRequest
from gateway.docs import problems
from gateway.ops_answers import Discarded, ItemAnswer, Items, ReplayAnswer, Replays, shown
from gateway.ops_desk import changed, replay_of
from gateway.ops_filter import DryRun
from gateway.ops_schemas import DiscardMany, FilterBody, StartReplay, filter_of, moment
from gateway.paging import Cursor, Limit, after_time, cursor_at
from orders.errors import Invalid
from outbox.letters import actions, replays
from outbox.letters.replays import ReplayState

_MOST_NUMBER: Final = 2**31 - 1
_MOST_DIGITS: Final = 10


@post("/replays", dto=Json[StartReplay], status_code=201, responses=problems(409, 413, 415))
async def start_replay(
    request: HttpRequest, gateway: Gate, data: JSONBody[StartReplay], *, dry_run: DryRun = False
) -> ReplayAnswer:
    """Send many letters again. Which ones is decided now: what fails later, or after the cut-off, is not swept in."""
    now = gateway.now()
    async with gateway.connection("the replay cannot be written") as conn:
        replay = await replays.create(
            conn, filter_of(data.filter), cutoff=moment("cutoff", data.cutoff or now), reason=data.reason, stages=data.stages,
            per_second=data.per_second, actor=request.user.id, now=now, dry_run=dry_run,
        )  # fmt: skip
    return shown(ReplayAnswer, replay)


@get("/replays", responses=problems())
async def list_replays(
    gateway: Gate,
    replay_state: Annotated[ReplayState | None, QueryParameter(name="state", description="In this state only.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Replays:
    """Replays of many letters, newest first."""
    before = after_time(cursor) if cursor is not None else None
    async with gateway.connection("the replays cannot be read") as conn:
        page = await replays.list_replays(conn, state=replay_state, before=before, limit=limit)
    following = cursor_at(page[-1].created_at, page[-1].replay_id) if len(page) == limit else None
    return Replays(replays=[shown(ReplayAnswer, replay) for replay in page], next_cursor=following)


@get("/replays/{replay_id:str}", responses=problems(404))
async def show_replay(gateway: Gate, replay_id: FromPath[str]) -> ReplayAnswer:
    """A replay and how far it is."""
    async with gateway.connection("the replay cannot be read") as conn:
        return shown(ReplayAnswer, await replays.progress(conn, replay_of(replay_id)))


@get("/replays/{replay_id:str}/items", responses=problems(404))
async def list_items(
    gateway: Gate,
    replay_id: FromPath[str],
    item_state: Annotated[
        Literal["waiting", "sent", "done", "failed", "skipped"] | None,
        QueryParameter(name="state", description="In this state only."),
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Items:
    """The letters of a replay, and what became of each."""
    async with gateway.connection("the replay cannot be read") as conn:
        await replays.progress(conn, replay_of(replay_id))
        page = await replays.items(conn, replay_id, state=item_state, after=_after(cursor), limit=limit)
    following = str(page[-1].number) if len(page) == limit else None
    return Items(items=[shown(ItemAnswer, item) for item in page], next_cursor=following)


def _after(cursor: str | None) -> int:
    text = cursor or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) <= _MOST_NUMBER):
        raise Invalid("cursor", "this is no cursor; give next_cursor of the page before, or none")
    return int(text)


@post("/replays/{replay_id:str}/pause", status_code=200, responses=problems(404, 409))
async def pause_replay(
    request: HttpRequest, gateway: Gate, replay_id: FromPath[str], *, dry_run: DryRun = False
) -> ReplayAnswer:
    """Send no more of it until it is resumed. What is under way comes to its own end."""
    async with changed(gateway, dry_run=dry_run) as conn:
        replay = await replays.pause(conn, replay_of(replay_id), actor=request.user.id, now=gateway.now())
    return shown(ReplayAnswer, replay)


@post("/replays/{replay_id:str}/resume", status_code=200, responses=problems(404, 409))
async def resume_replay(
    request: HttpRequest, gateway: Gate, replay_id: FromPath[str], *, dry_run: DryRun = False
) -> ReplayAnswer:
    """Go on with one that was paused, or that stopped at a failure: the failures so far are accepted."""
    async with changed(gateway, dry_run=dry_run) as conn:
        replay = await replays.resume(conn, replay_of(replay_id), actor=request.user.id, now=gateway.now())
    return shown(ReplayAnswer, replay)


@post("/replays/{replay_id:str}/cancel", status_code=200, responses=problems(404, 409))
async def cancel_replay(
    request: HttpRequest, gateway: Gate, replay_id: FromPath[str], *, dry_run: DryRun = False
) -> ReplayAnswer:
    """Send no more of it, ever. Letters that were not sent stay open."""
    async with changed(gateway, dry_run=dry_run) as conn:
        replay = await replays.cancel(conn, replay_of(replay_id), actor=request.user.id, now=gateway.now())
    return shown(ReplayAnswer, replay)


@post("/discards", dto=Json[DiscardMany], status_code=200, responses=problems(409, 413, 415))
async def discard_many(
    request: HttpRequest, gateway: Gate, data: JSONBody[DiscardMany], *, dry_run: DryRun = False
) -> Discarded:
    """Discard every open letter that a filter names. The filter names at least one field: nobody discards all by leaving it out."""
    if data.filter == FilterBody(state=data.filter.state):
        raise Invalid("filter", "name at least one field beside the state")
    now = gateway.now()
    cutoff = moment("cutoff", data.cutoff or now)
    async with gateway.connection("the letters cannot be written") as conn:
        number = await actions.discard_many(
            conn, filter_of(data.filter), cutoff=cutoff, reason=data.reason, actor=request.user.id, now=now, dry_run=dry_run
        )
    return Discarded(discarded=number, cutoff=cutoff, dry_run=dry_run)


ROUTES: Final = (
    start_replay, list_replays, show_replay, list_items, pause_replay, resume_replay, cancel_replay, discard_many,
)  # fmt: skip
