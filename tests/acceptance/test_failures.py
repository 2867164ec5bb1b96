"""Everything goes wrong at once, and an operator clears up: every order and every message is accounted for, from the outside.

Seeds decide what happens and when; what is judged is where things are at the end, never how long it took.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from adapters.queues import queue_depths
from adapters.topology_declared import TopologyError
from console.demo import sql
from console.demo.evidence import Deeds
from console.demo.gathering import gather
from console.demo.invariants import judge_all
from console.demo.stage import Stage, set_up
from simulation.world import Load
from tests.acceptance.trouble import DURATION_S, NightShift, Trouble, environment
from tests.servers import REPOSITORY

TIME_SCALE: Final = 90.0
_PATIENCE_S: Final = 120.0
_HELD: Final = """
SELECT group_name, order_id, kind FROM held_facts WHERE skipped_at IS NULL
UNION ALL SELECT group_name, order_id, kind FROM audit.held_facts WHERE skipped_at IS NULL
"""
_RECOUNTED: Final = """
SELECT fingerprint, g.total, g.open, l.total AS letters, l.open AS open_letters FROM letter_groups g FULL JOIN (
    SELECT fingerprint, count(*) AS total, count(*) FILTER (WHERE state IN ('open', 'replaying')) AS open
    FROM dead_letters GROUP BY fingerprint) l USING (fingerprint)
WHERE coalesce(g.total, 0) <> coalesce(l.total, 0) OR coalesce(g.open, 0) <> coalesce(l.open, 0)
"""
_ITEMS: Final = "SELECT replay_id, letter_id, state FROM letter_replay_items WHERE state = 'sent'"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)  # the servers are those of this evening alone
    tmp_path.chmod(0o755)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "cache").symlink_to(REPOSITORY / "var" / "cache")
    yield tmp_path
    subprocess.run(
        [sys.executable, "-m", "console", "down", "--purge"],
        env={**environment(), "RUSHLINE_HOME": str(tmp_path)}, cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip


async def _quiet(stage: Stage) -> bool:
    """Whether nothing is under way any more, here or outside."""
    (unfinished,) = await stage.db.fetch(sql.UNFINISHED, stage.before.began)
    if any(unfinished.values()) or await stage.db.fetch(sql.BEHIND, stage.before.began) or await stage.db.fetch(_HELD):
        return False
    try:
        return not any((await queue_depths(stage.settings)).values())
    except TopologyError:
        return False


async def an_evening_of_trouble(home: Path, seed: int) -> dict[str, Any]:
    """All that broke, by what was promised, and beside it what happened (`told`)."""
    async with set_up(home, seed=seed, cities=4, time_scale=TIME_SCALE, free_ports=True, keep=False) as stage:
        trouble = Trouble(stage, seed)
        await stage.world.start_customers(Load(rate=4.0, duration_s=DURATION_S, patience_s=30.0))
        await trouble.play()
        shift = NightShift(stage, trouble)
        became_quiet = await shift.clear_up(_PATIENCE_S, lambda: _quiet(stage))
        evidence = await gather(
            stage.db, stage.settings, stage.world, stage.before, Deeds(parked=[*trouble.parked, *trouble.edited])
        )
        totals = (await stage.world.ask("provider_control", "/_sim/ledger"))["totals"]
        sms = [each["idempotency_key"] for each in (await stage.world.ask("messaging", "/_sim/messages"))["sms"]]
        letters = {letter.message_id: letter for letter in evidence.letters}
        left = await stage.db.fetch(sql.UNFINISHED, stage.before.began)
        return {
            "quiet": [] if became_quiet else [*map(dict, left), await queue_depths(stage.settings), *shift.refused[-5:]],
            "promises": {name: each.broken for name, each in judge_all(evidence).items() if not each.ok},
            "charged twice": totals["orders_captured_twice"],
            "groups": [dict(row) for row in await stage.db.fetch(_RECOUNTED)],
            "held": [dict(row) for row in await stage.db.fetch(_HELD)],
            "sent and forgotten": [dict(row) for row in await stage.db.fetch(_ITEMS)],
            "poison": [each for each in trouble.parked if letters[each].state != "discarded"],
            "mended": [each for each in trouble.edited if letters[each].resolution != "edited" or f"{each}" not in sms],
            "undecided": [letter.letter_id for letter in evidence.letters if letter.state in ("open", "replaying")],
            "told": {
                "orders": Counter(order.state for order in evidence.orders.values()),
                "letters": Counter(f"{each.source} {each.state} {each.resolution}" for each in evidence.letters),
                "killed": Counter(trouble.killed), "repeated": trouble.repeated, "refused": Counter(shift.refused),
            },
        }  # fmt: skip


@pytest.mark.timeout(420)
@pytest.mark.parametrize("seed", [9])
async def test_every_order_and_every_message_is_accounted_for_when_everything_goes_wrong_at_once(home: Path, seed: int) -> None:
    came_to = await an_evening_of_trouble(home, seed)
    told = came_to.pop("told")
    assert {what: broken for what, broken in came_to.items() if broken} == {}, told
    assert told["orders"]["delivered"] > 0
    assert len(told["killed"]) > 1
    assert told["repeated"] > 0
