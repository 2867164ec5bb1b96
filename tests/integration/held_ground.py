"""Streams with a bug, and all that stands by them when a fact fails: relay, tiers, a worker, the letters' process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from adapters.postgres import Connection
from adapters.rabbitmq_consumer import Consumer
from adapters.settings import Settings
from orders.envelope import Broker, Envelope
from orders.errors import RetryLater
from orders.failures import FailureType
from orders.names import DEAD_LETTERS, POISON, Queue
from outbox.letters.model import Letter, LetterState
from streams.analytics import Analytics
from streams.audit import Audit
from streams.group import Group, Incoming
from streams.support import Support
from tests.fake_ports import FakePorts
from tests.integration.streams_making import following, held, rows
from tests.integration.workers_ground import Ground
from tests.making import REPOSITORY, eventually, quick, relaying
from workers.held import HeldTable
from workers.intake import Intake

FIFTH = 5  # the position of an order's acceptance


class Overloaded(RetryLater):
    """A failure that has a name."""

    slug = "overloaded"
    failure = FailureType.SERVICE_UNAVAILABLE


class Bug:
    """A file that says for which orders the acceptance fails, so that other processes see it too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.touch()

    def strikes(self, *orders: str) -> None:
        self._path.write_text("\n".join(orders))

    def mended(self) -> None:
        self.strikes()

    def hits(self, taken: Sequence[Incoming]) -> bool:
        return any(self.strikes_at(item.order_id, item.position) for item in taken)

    def strikes_at(self, order_id: str, position: int | None) -> bool:
        return position == FIFTH and order_id in self._path.read_text().split()


class BuggyAnalytics(Analytics):
    bug: Bug

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        await super().apply(db, taken)
        if self.bug.hits(taken):
            await db.execute("SELECT 1 / 0")


class BuggySupport(Support):
    bug: Bug

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        await super().apply(db, taken)
        if self.bug.hits(taken):
            raise Overloaded("the read model is overloaded")


class BuggyAudit(Audit):
    bug: Bug

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        await super().apply(db, taken)
        if self.bug.hits(taken):
            await db.execute("SELECT 1 / 0")


class DeadlySupport(Support):
    """Dies of the fact as of too much memory: nobody can catch it."""

    bug: Bug

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        if self.bug.hits(taken):
            os.kill(os.getpid(), signal.SIGKILL)
        await super().apply(db, taken)


class DeadlyToRead(Audit):
    """Dies of a look into the body, in the schema that may be elsewhere."""

    bug: Bug

    def read(self, envelope: Envelope, body: bytes) -> Any:
        if self.bug.strikes_at(envelope.subject, envelope.position):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(envelope, body)


Buggy = BuggyAnalytics | BuggySupport | BuggyAudit | DeadlySupport | DeadlyToRead


def buggy(kind: type[Buggy], topic: str, name: str, bug: Bug) -> Group:
    group = kind(topic=topic, name=name)
    group.bug = bug
    return group


@asynccontextmanager
async def standing_by(ground: Ground, settings: Settings, *groups: Group, batch_rows: int = 500) -> AsyncIterator[None]:
    """Everything but the streams' neighbours runs meanwhile: these groups, the relay to RabbitMQ, a worker, the letters."""
    async with behind(ground, settings), following(settings, *groups, batch_rows=batch_rows):
        yield


@asynccontextmanager
async def behind(ground: Ground, settings: Settings) -> AsyncIterator[None]:
    """The relay to RabbitMQ, a worker that wakes, the intake of the letters; no keeper, whose rules would replay them."""
    fakes, stop, intake = FakePorts(), asyncio.Event(), Intake(ground.pool)
    fakes.held = HeldTable(ground.pool)
    dead = Consumer(
        settings.rabbitmq_url, intake.take, service="tests", queues=[DEAD_LETTERS, POISON], concurrency=20, drain_s=2
    )  # fmt: skip
    async with relaying(quick(settings), (Broker.RABBITMQ,)), ground.working(fakes, Queue.ORDERS):
        tasks = [asyncio.create_task(each.run(stop)) for each in (dead, intake)]
        try:
            yield
            assert not [task for task in tasks if task.done()], tasks
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 20)


async def letters_of(ground: Ground, group: Group) -> list[Letter]:
    found = await ground.pool.fetch("SELECT * FROM dead_letters WHERE consumer = $1 ORDER BY parked_at", group.name)
    return [msgspec.convert({k: v for k, v in row.items() if k not in {"resolved", "words"}}, Letter) for row in found]


async def parked_letter(ground: Ground, group: Group, *, generation: int = 1) -> Letter:
    """The one letter of this group, once it is open."""
    found: list[Letter] = []

    async def arrived() -> None:
        found[:] = await letters_of(ground, group)
        assert [(each.state, each.generation) for each in found] == [(LetterState.OPEN, generation)]

    await eventually(arrived, 60)
    return found[0]


async def until_held(settings: Settings, group: Group, **wanted: Any) -> None:
    """What fails is held like this."""

    async def check() -> None:
        failing = [row for row in await held(settings, group) if row["kind"] != "gap"]
        assert [{name: row[name] for name in wanted} for row in failing] == [wanted]

    await eventually(check)


async def placed(settings: Settings) -> int:
    """How many orders analytics has counted as placed."""
    (row,) = await rows(settings, "SELECT coalesce(sum(placed), 0)::int AS n FROM analytics_minutes")
    return int(row["n"])


async def start(
    settings: Settings, kind: str, topic: str, name: str, bug: Path, *, courier: bool = True
) -> asyncio.subprocess.Process:
    """A stream as a process of its own, to be killed."""
    given = msgspec.json.encode(settings).decode()
    words = [kind, topic, name, str(bug), "courier" if courier else "alone", given]
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.integration.held_process", *words, cwd=REPOSITORY)


async def kill(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()
