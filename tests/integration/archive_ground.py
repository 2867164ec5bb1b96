"""What the archive's tests stand on: a ledger whose events are weeks old, its signed tree, an archive, and an archiver."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from adapters.archive_store import ArchiveStore
from adapters.postgres import Connection, connect
from adapters.settings import Settings
from audit import keys, ledger
from audit.archive.life import Archiver, Done
from audit.events import Event, read_event
from audit.sql import MOVE_HEADS
from bench.audit_making import delivered_order
from orders.chain import GENESIS, seal
from orders.ids import derived_id
from orders.names import Act
from tests.integration.audit_ground import checkpointed

MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
_WEEK = timedelta(weeks=1)
_PARTITION = """
DO $$ BEGIN
    IF to_regclass('audit.events_default') IS NOT NULL AND to_regclass('audit.{name}') IS NULL THEN
        CREATE TABLE audit.{name} PARTITION OF audit.events FOR VALUES FROM ('{since}') TO ('{until}');
    END IF;
END $$
"""


@dataclass
class Told:
    """The audit events that an archiver asked for."""

    events: list[tuple[Act, str, dict[str, Any]]] = field(default_factory=list)

    async def __call__(self, act: Act, key: str, details: dict[str, Any]) -> None:
        self.events.append((act, key, details))

    @property
    def acts(self) -> list[tuple[str, str]]:
        return [(act.value, key) for act, key, _ in self.events]


def archiver(settings: Settings, store: ArchiveStore, told: Told | None = None, **values: Any) -> Archiver:
    """One that keeps nothing hot, and nothing for longer than two years."""
    known = keys.load(settings)
    defaults: dict[str, Any] = {
        "dsn": settings.audit_url, "store": store, "origin": settings.audit_origin, "hot_days": 90, "keep_days": 730,
        "tell": told or Told(), "alarm": _quiet, "sign": lambda text: known.sign_text(text, datetime.now(UTC)),
    }  # fmt: skip
    return Archiver(**{**defaults, **values})


async def _quiet(trouble: str | None) -> None:
    assert trouble is None


async def put(settings: Settings, at: datetime, bodies: Sequence[bytes]) -> None:
    """These events got their place in the log at that time: what the stream would have stored then."""
    monday = at - timedelta(days=at.weekday())
    since = monday.replace(hour=0, minute=0, second=0, microsecond=0)
    name = f"events_{since:%Y%m%d}"
    async with connect(settings.audit_migrate_url, service="tests") as owner, owner.transaction():
        await owner.execute(_PARTITION.format(name=name, since=since.isoformat(), until=(since + _WEEK).isoformat()))
        events = [read_event(1, body) for body in bodies]
        first = await owner.fetchval(
            "UPDATE audit.sequence SET next_leaf = next_leaf + $1 RETURNING next_leaf - $1", len(events)
        )
        rows = [_row(event, first + number, at) for number, event in enumerate(events)]
        await owner.copy_records_to_table("events", schema_name="audit", records=rows, columns=ledger.COLUMNS)
        heads = {event.chain: event for event in events}
        await owner.execute(
            MOVE_HEADS, list(heads), [e.position for e in heads.values()], [e.hash for e in heads.values()], [None] * len(heads)
        )


def _row(e: Event, leaf: int, at: datetime) -> tuple[Any, ...]:
    searched = (e.chain, e.position, e.event_id, e.action, e.actor_type, e.actor_id, e.new_state, e.occurred_at)
    return (leaf, at, *searched, e.body)


async def weeks(settings: Settings, orders: Sequence[int], since: datetime = MONDAY) -> list[list[list[bytes]]]:
    """So many delivered orders in each of the weeks from then on, in the tree and signed; the bodies of each, by week."""
    made = []
    for number, count in enumerate(orders):
        at = since + number * _WEEK + timedelta(hours=30)
        made.append([delivered_order(at + timedelta(minutes=n)) for n in range(count)])
        await put(settings, at, _interleaved(made[-1]))
    await checkpointed(settings)
    return made


def _interleaved(orders: Sequence[Sequence[bytes]]) -> list[bytes]:
    """As they come: the first event of each, then the second."""
    return [body for step in zip(*orders, strict=True) for body in step]


async def steps(each: Archiver, now: datetime, most: int = 100) -> list[Done]:
    """All that is due at that time."""
    done: list[Done] = []
    async with connect(each.dsn, service="tests") as db:
        while len(done) < most and (did := await each.step(db, now)) is not None:
            done.append(did)
    return done


def desk_events(chain: str, count: int, at: datetime) -> list[bytes]:
    """Events of a chain that is of no order, some days apart."""
    head, made = GENESIS, []
    for position in range(1, count + 1):
        event = {
            "v": 1, "event_id": derived_id("aud", chain, position), "chain": chain, "order_id": None, "position": position,
            "action": "orders.searched", "actor": {"type": "support", "id": "ann"}, "reason": None, "details": {},
            "service": "gateway", "correlation_id": "c", "causation_id": "r", "occurred_at": at.isoformat(),
        }  # fmt: skip
        head, body = seal(event, head)
        made.append(body)
    return made


def facts(done: Sequence[Done]) -> list[tuple[str, str]]:
    return [(each.archive, each.what) for each in done]


async def hot(db: Connection) -> int:
    """How many events the ledger itself has."""
    return int(await db.fetchval("SELECT count(*) FROM audit.events"))


def chain_of(order: Sequence[bytes]) -> str:
    return str(msgspec.json.decode(order[0])["order_id"])
