"""The only place that decides how a replay of many letters goes on: a canary first, then more, then the rest.

All of it is in the database, and each step is one transaction: whoever is killed between two steps leaves nothing behind that
the next step does not find. Operators create replays and look at them in `replays.py`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Pool, Record
from outbox.alerts import raise_alert
from outbox.letters import replays_sql as sql
from outbox.letters.sending import Sent, send, writing

_REPLAYS_AT_ONCE: Final = 20
STOPPED: Final = "replay-stopped"  # an alert; its subject is the replay
SLICE: Final = 500  # letters in one transaction
_BURST: Final = timedelta(seconds=1)  # what a throttled replay may catch up with at once

log = structlog.get_logger()


async def step(pool: Pool, now: datetime) -> int:
    """Take each running replay one step further. Returns how many items moved. Raises `DatabaseUnavailable`."""
    try:
        running = [record["replay_id"] for record in await pool.fetch(sql.RUNNING, _REPLAYS_AT_ONCE)]
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the replays cannot be read: {type(error).__name__}") from error
    return sum([await advance(pool, replay_id, now) for replay_id in running])


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
    if stand["failed"] > replay["failures_accepted"]:
        await _stop(conn, replay_id, stage, now)
        return stage, 0
    if not stand["waits"]:
        if not stand["under_way"]:
            await conn.execute(sql.END, replay_id, "done", None, now)
        return stage, 0
    if not canary_sent:
        return stage, SLICE if stage == len(stages) - 1 else stages[stage] - stand["of_stage"]
    if stand["under_way"]:
        return stage, 0
    return stage + 1, SLICE if stage + 1 == len(stages) - 1 else stages[stage + 1]


async def _stop(conn: Connection, replay_id: str, stage: int, now: datetime) -> None:
    failure = await conn.fetchrow(sql.FIRST_FAILURE, replay_id)
    why = "a letter failed again"
    if failure is not None:
        why = f"{failure['letter_id']} failed again: {failure['error']}: {failure['message']}"[:500]
    await conn.execute(sql.END, replay_id, "stopped", why, now)
    await raise_alert(conn, STOPPED, replay_id, why, now)
    log.warning("a replay stops at a failure", replay_id=replay_id, stage=stage, why=why[:200])


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
