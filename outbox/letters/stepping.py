"""The only place that decides how a replay of many letters goes on: a canary first, then more, then the rest.

All of it is in the database, and each step is one transaction: whoever is killed between two steps leaves nothing behind that
the next step does not find. Operators create replays and look at them in `replays.py`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Pool, Record
from orders.errors import RetryLater
from orders.names import Act
from outbox.alerts import raise_alert
from outbox.letters import desk
from outbox.letters import replays_sql as sql
from outbox.letters.sending import Sent, send, writing

_REPLAYS_AT_ONCE: Final = 200  # most of them only wait
STOPPED: Final = "replay-stopped"  # an alert; its subject is the replay
SLICE: Final = 500  # letters in one transaction
_LONGEST_WHY: Final = 500
_BURST: Final = timedelta(seconds=1)  # what a throttled replay may catch up with at once

log = structlog.get_logger()


async def step(pool: Pool, now: datetime) -> int:
    """Take each running replay one step further. Returns how many items moved. Raises `DatabaseUnavailable`."""
    try:
        running = [record["replay_id"] for record in await pool.fetch(sql.RUNNING, _REPLAYS_AT_ONCE)]
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the replays cannot be read: {type(error).__name__}") from error
    return sum([await _guarded(pool, replay_id, now) for replay_id in running])


async def _guarded(pool: Pool, replay_id: str, now: datetime) -> int:
    """A replay that cannot go on stops and says why, and the others go on."""
    try:
        return await advance(pool, replay_id, now)
    except RetryLater:
        raise
    except Exception as error:
        log.exception("a replay cannot go on", replay_id=replay_id)
        async with writing(pool) as conn:
            await _stop(conn, replay_id, f"a letter cannot be sent: {type(error).__name__}: {error}", now)
        return 0


async def advance(pool: Pool, replay_id: str, now: datetime) -> int:
    """One step of one replay: stop it, end it, or send the next slice. Returns how many items moved."""
    async with writing(pool) as conn:
        replay = await conn.fetchrow(sql.TAKE, replay_id)
        if replay is None:
            return 0
        stage, wanted = await _due(conn, replay, now)
        wanted = min(wanted, SLICE, _allowed(replay, now))
        return await _send_slice(conn, replay, stage, wanted, now) if wanted else 0


async def _due(conn: Connection, replay: Record, now: datetime) -> tuple[int, int]:
    """The stage that this replay is in, and how many of it are still to be sent. Stops or ends the replay where it is time."""
    replay_id, stages, stage = replay["replay_id"], replay["stages"], replay["stage"]
    stand = await conn.fetchrow(sql.STAND, replay_id, stage, stage < len(stages) - 1)
    assert stand is not None
    canary_sent = stage < len(stages) - 1 and stand["of_stage"] >= stages[stage]
    if stand["under_way"] and (canary_sent or not stand["waits"]):
        await conn.execute(sql.LOOK_AGAIN, replay_id)
        stand = await conn.fetchrow(sql.STAND, replay_id, stage, stage < len(stages) - 1)
        assert stand is not None
    failed = stand["failed"] > replay["failures_accepted"]
    if not stand["waits"]:  # there is nothing to stop
        if not stand["under_way"]:
            why = await _failure(conn, replay_id) if failed else None
            await conn.execute(sql.END, replay_id, "done", why, now)
            await _tell(conn, "done", replay_id, why, now)
        return stage, 0
    if failed:
        await _stop(conn, replay_id, await _failure(conn, replay_id), now)
        return stage, 0
    if not canary_sent:
        return stage, SLICE if stage == len(stages) - 1 else stages[stage] - stand["of_stage"]
    if stand["under_way"]:
        return stage, 0
    return stage + 1, SLICE if stage + 1 == len(stages) - 1 else stages[stage + 1]


async def _failure(conn: Connection, replay_id: str) -> str:
    failure = await conn.fetchrow(sql.LAST_FAILURE, replay_id)
    assert failure is not None
    return f"{failure['letter_id']} failed again: {failure['error']}: {failure['message']}"


async def _stop(conn: Connection, replay_id: str, why: str, now: datetime) -> None:
    why = why[:_LONGEST_WHY]
    await conn.execute(sql.END, replay_id, "stopped", why, now)
    await raise_alert(conn, STOPPED, replay_id, why, now)
    await _tell(conn, "stopped", replay_id, why, now)
    log.warning("a replay stops", replay_id=replay_id, why=why)


async def _tell(conn: Connection, act: str, replay_id: str, why: str | None, now: datetime) -> None:
    cause = f"{replay_id}/{act}/{now.isoformat()}"
    told = {"act": act, "replay_id": replay_id}
    await desk.tell(conn, Act.REPLAY_CHANGED, told, actor=desk.KEEPER, cause=cause, now=now, reason=why)


def _allowed(replay: Record, now: datetime) -> int:
    """How many its pace allows by now: counted from a time that is stored, so that a restart neither waits nor rushes."""
    if replay["per_second"] is None:
        return SLICE
    saved: timedelta = min(now - replay["paced_at"], _BURST)
    # In whole microseconds: a third of a second three times is one second.
    return max(0, (saved // timedelta(microseconds=1)) * int(replay["per_second"]) // 1_000_000)


async def _send_slice(conn: Connection, replay: Record, stage: int, wanted: int, now: datetime) -> int:
    """Send the next ones that wait. One that may not be sent is skipped, says why, and costs the stage nothing."""
    replay_id = replay["replay_id"]
    items = await conn.fetch(sql.NEXT, replay_id, wanted)
    answers = await send(
        conn,
        [item["letter_id"] for item in items],
        actor=replay["created_by"],
        now=now,
        replay_id=replay_id,
        cutoff=replay["cutoff"],
    )
    await conn.execute(sql.MARK, replay_id, stage, now, [item["number"] for item in items], *_columns(answers))
    await conn.execute(sql.PACE, replay_id, stage, now, sum(answer.refusal is None for answer in answers))
    return len(items)


def _columns(answers: Sequence[Sent]) -> tuple[list[str], list[Any]]:
    states = ["sent" if answer.refusal is None else "skipped" for answer in answers]
    return states, [answer.refusal and ": ".join(filter(None, (answer.refusal.value, answer.why)))[:300] for answer in answers]
