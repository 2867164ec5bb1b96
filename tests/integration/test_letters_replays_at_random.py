"""Whatever happens to a replay and its letters in whatever order: nothing is sent twice, nothing too early, nothing is forgotten."""

import random
from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from orders import parking
from outbox.letters import replays
from outbox.letters.model import Letter, LetterFilter
from outbox.letters.replays import Replay, ReplayState, ReplayStateRefused
from outbox.letters.sending import settle
from tests.integration.replays_ground import ANN, BOB, clean, failed, now, outbox, park
from tests.integration.workers_ground import Ground, ground
from tests.making import placed

__all__ = ["clean", "ground"]

LETTERS, ACTS = 25, 60


async def _under_way(clean: Ground) -> list[str]:
    rows = await clean.pool.fetch("SELECT letter_id FROM dead_letters WHERE state = 'replaying' ORDER BY letter_id")
    return [row["letter_id"] for row in rows]


async def _failed_again(clean: Ground, original: Letter, replay_id: str) -> None:
    at = now()
    times = dict.fromkeys((parking.FIRST_FAILED_AT, parking.LAST_FAILED_AT, parking.PARKED_AT), at.isoformat())
    headers = {**original.headers, parking.LETTER: original.letter_id, parking.REPLAY: replay_id, **times}
    again = {"headers": headers, "parked_at": at, "first_failed_at": at, "last_failed_at": at}
    await park(clean, msgspec.structs.replace(original, **again))


def _holds(shown: Replay, before: Replay) -> None:
    """What is true at every moment."""
    assert shown.waiting + shown.sent + shown.done + shown.failed + shown.skipped == LETTERS
    assert shown.done >= before.done
    assert shown.failed >= before.failed
    sent = [stage.sent + stage.done + stage.failed for stage in shown.stages]
    for number, stage in enumerate(shown.stages[:-1]):
        assert sent[number] <= stage.size
        if sum(sent[number + 1 :]):  # the next stage began: this one had ended
            assert (sent[number], stage.sent) == (stage.size, 0)


class _Replay:
    """A replay, and what may happen to it and to its letters."""

    def __init__(self, clean: Ground, shown: Replay, originals: dict[str, Letter], chance: random.Random) -> None:
        self._clean, self.shown, self._originals, self._chance = clean, shown, originals, chance

    async def act(self, name: str) -> None:
        match name:
            case "step":
                await self._step()
            case "done" | "fail":
                await self._end_one(well=name == "done")
            case _:
                await self._say(name)
        before, self.shown = self.shown, await replays.progress(self._clean.pool, self.shown.replay_id)
        _holds(self.shown, before)

    async def _step(self) -> None:
        before = len(await outbox(self._clean))
        await replays.step(self._clean.pool, now())
        if self.shown.state is not ReplayState.RUNNING:
            assert len(await outbox(self._clean)) == before

    async def _end_one(self, *, well: bool) -> None:
        under_way = await _under_way(self._clean)
        if not under_way:
            return
        chosen = self._chance.choice(under_way)
        if well:
            await settle(self._clean.pool, chosen, outcome="done", now=now())
        else:
            await _failed_again(self._clean, self._originals[chosen], self.shown.replay_id)

    async def _say(self, name: str) -> None:
        word = replays.pause if name == "pause" else replays.resume
        try:
            await word(self._clean.pool, self.shown.replay_id, actor=BOB, now=now())
        except ReplayStateRefused:
            assert self.shown.state is not (ReplayState.RUNNING if name == "pause" else ReplayState.PAUSED)


@pytest.mark.parametrize("seed", range(6))
async def test_any_order_of_events_keeps_its_promises_and_comes_to_an_end(clean: Ground, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # a seeded story
    order, at = await placed(clean.pool), now() - timedelta(hours=1)
    letters = [failed(order, number=n + 1, failed_at=at + timedelta(seconds=n)) for n in range(LETTERS)]
    originals = {each.letter_id: each for each in letters}
    await park(clean, *letters)
    created = await replays.create(clean.pool, LetterFilter(), reason="a test", stages=(1, 3, 4), actor=ANN, now=now())
    replay = _Replay(clean, created, originals, chance)
    for name in chance.choices(("step", "done", "fail", "pause", "resume"), (8, 6, 1, 1, 2), k=ACTS):
        await replay.act(name)
    while replay.shown.state is not ReplayState.DONE:  # the test's own time limit ends this where it does not come to its end
        for name in ("resume", "step", "done", "done"):
            await replay.act(name)
    shown = replay.shown
    assert (shown.waiting, shown.sent, shown.skipped) == (0, 0, 0)
    sent = await clean.pool.fetch("SELECT letter_id FROM letter_history WHERE action = 'sent'")
    assert Counter(row["letter_id"] for row in sent) == dict.fromkeys(originals, 1)
    states = await clean.pool.fetch("SELECT state, count(*) FROM dead_letters GROUP BY state")
    ended = {"resolved": shown.done, "open": shown.failed}
    assert {row["state"]: row["count"] for row in states} == {name: number for name, number in ended.items() if number}
    assert await clean.pool.fetchval("SELECT sum(open) FROM letter_groups") == shown.failed
