"""From the failure to the end of it, all real: workers park, the letters' process records and sends, somebody types three lines."""

import asyncio
import json
import os
import sys
from typing import Any, NamedTuple

from orders.envelope import Broker
from orders.names import Command
from tests.fake_ports import FakePorts
from tests.integration.replays_ground import NumberBarred, clean
from tests.integration.test_letters_intake import taking_in
from tests.integration.workers_ground import Ground, ground
from tests.making import REPOSITORY, eventually, placed, quick, relaying

__all__ = ["clean", "ground"]
MANY = 20


class Said(NamedTuple):
    exit_code: int
    stdout: str
    output: str


async def _type(ground: Ground, *words: str) -> Said:
    """The command as a process of its own, as somebody's terminal starts it."""
    env = {**os.environ, "RUSHLINE_POSTGRES_DSN": ground.settings.postgres_dsn, "RUSHLINE_HOME": "/nonexistent"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "console", "dlq", *words, env=env, cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, stdout.decode(), (stdout + stderr).decode())


async def _read(ground: Ground, *words: str) -> Any:
    said = await _type(ground, *words, "--json")
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout)


async def _open(ground: Ground, number: int) -> None:
    async def there() -> None:
        assert await ground.pool.fetchval("SELECT count(*) FROM dead_letters WHERE state = 'open'") == number

    await eventually(there)


async def _barred(ground: Ground, fakes: FakePorts) -> str:
    """Texts that the provider bars, parked by the workers. Returns their group."""
    order = await placed(ground.pool)
    fakes.messages.always["sms"] = NumberBarred("barred by the provider")
    for number in range(MANY):
        values = {"recipient": "customer", "template": "payment_failed"}
        await ground.send(order, Command.NOTIFICATION_SMS, detail=str(number), **values)
    await _open(ground, MANY)
    (group,) = (await _read(ground, "groups"))["groups"]
    assert (group["open"], group["error"], group["consumer"]) == (MANY, "NumberBarred", "notifications")
    return str(group["fingerprint"])


async def test_letters_of_an_outage_are_sent_again_and_watched_until_each_is_done_once(clean: Ground) -> None:
    fakes, settings = FakePorts(), quick(clean.settings)
    async with clean.working(fakes), relaying(settings, (Broker.RABBITMQ,)), taking_in(settings):
        group = await _barred(clean, fakes)
        asked = len(fakes.messages.calls)
        stopped = await _type(clean, "replay", "--group", group, "--reason", "it may be over", "--watch")
        assert stopped.exit_code == 1, stopped.output
        assert "failed again: NumberBarred: barred by the provider" in stopped.stdout
        assert len(fakes.messages.calls) == asked + 1  # the canary, and nobody else
        (halted,) = (await _read(clean, "replays", "list"))["replays"]
        assert (await _type(clean, "replays", "cancel", halted["replay_id"])).exit_code == 0
        await _open(clean, MANY)
        del fakes.messages.always["sms"]
        mended = await _type(clean, "replay", "--group", group, "--reason", "it is over", "--watch")
        assert mended.exit_code == 0, mended.output
        assert f"{MANY} of {MANY} done" in mended.stdout
        assert (await _read(clean, "list"))["letters"] == []
        assert (await _read(clean, "list", "--state", "resolved"))["count"]["number"] == MANY
    assert len(fakes.messages.calls) == asked + 1 + MANY


async def test_one_letter_is_sent_again_and_its_end_is_told(clean: Ground) -> None:
    fakes, settings = FakePorts(), quick(clean.settings)
    async with clean.working(fakes), relaying(settings, (Broker.RABBITMQ,)), taking_in(settings):
        group = await _barred(clean, fakes)
        one, other = [each["letter_id"] for each in (await _read(clean, "list", "--group", group))["letters"]][:2]
        failed = await _type(clean, "replay", one, "--watch")
        assert (failed.exit_code, "failed again: NumberBarred" in failed.stdout) == (1, True), failed.output
        assert (await _read(clean, "show", one))["letter"]["generation"] == 2
        del fakes.messages.always["sms"]
        done = await _type(clean, "replay", one, other, "--watch")
        assert done.exit_code == 0, done.output
        assert done.stdout.count("is resolved") == 2
        await _open(clean, MANY - 2)
