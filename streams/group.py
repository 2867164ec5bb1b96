"""The only place for what a stream is made of: a group, and the facts that it takes."""

import traceback
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

import msgspec

from adapters.kafka_consumer import Partition, Record
from adapters.postgres import Connection
from orders.envelope import KAFKA_PREFIX, Envelope, open_envelope
from orders.errors import BadMessage, CallAnOperator, Refuse, RushlineError
from orders.facts import FactBody, read_fact
from orders.failures import CATEGORY, Category, FailureType

Schema: TypeAlias = Literal["public", "audit"]
_MAX_SUBJECT: Final = 100
_MAX_POSITION: Final = 2**31 - 1
_LONGEST_STACK: Final = 8_000


class Kind(StrEnum):
    """Why a fact is held."""

    GAP = "gap"
    UNREADABLE = "invalid-message"
    FAILED = "failed"


class Problem(msgspec.Struct, frozen=True):
    """What keeps a fact from taking effect. `error`: the error's class; `final`: trying again cannot help."""

    kind: Kind
    reason: str
    error: str = ""
    slug: str = ""
    failure: FailureType = FailureType.UNKNOWN
    stack: str = ""
    final: bool = False

    @classmethod
    def of(cls, kind: Kind, error: BaseException) -> "Problem":
        """What this error says. Of those that nobody has named, also where it comes from."""
        if kind is Kind.UNREADABLE:
            reason = str(error) if isinstance(error, BadMessage) else f"{type(error).__name__}: {error}"
            return cls(kind, reason, type(error).__name__, BadMessage.slug, FailureType.INVALID_MESSAGE, final=True)
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, RushlineError):
            final = isinstance(error, Refuse | CallAnOperator) or CATEGORY[error.failure] is not Category.TRANSIENT
            return cls(kind, reason, type(error).__name__, error.slug, error.failure, final=final)
        stack = "".join(traceback.format_exception(error))[-_LONGEST_STACK:]
        return cls(kind, reason, type(error).__name__, FailureType.UNKNOWN.value, stack=stack)


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """One fact on its way in, from Kafka or (`held`) from the table of held ones. `fact` is there unless `problem` is.

    Of held ones: `woken`, it may be tried again; `discarded`, it is to be passed at its turn; `attempts`, how often it failed;
    `letter_id`, the letter that it is.
    """

    partition: Partition
    offset: int
    key: bytes | None = None
    order_id: str
    position: int | None
    headers: dict[str, str]
    body: bytes
    envelope: Envelope | None = None
    fact: Any = None
    problem: Problem | None = None
    held: bool = False
    woken: bool = False
    discarded: bool = False
    attempts: int = 0
    first_failed_at: datetime | None = None
    letter_id: str | None = None


class Group:
    """One consumer group. Its subclass says in `apply` what its facts do, each taken once and in its order's order."""

    noun: str = ""
    schema: Schema = "public"
    linger_ms: int = 150
    durable: bool = False  # the last facts before a crash of the database are read again: it need not wait for its disk
    read_models: tuple[str, ...] = ()  # tables that can be emptied and built again from the facts

    def __init__(self, *, topic: str, name: str = "") -> None:
        self.name, self.topic = name or self.noun, topic

    def read(self, envelope: Envelope, body: bytes) -> Any:
        """The fact in these bytes. Raises `BadMessage`."""
        fact = read_fact(envelope.schema_version, body)
        if (fact.order_id, fact.position, fact.type.value) != (envelope.subject, envelope.position, envelope.type):
            raise BadMessage("the headers name another order, position or type than the body")
        return fact

    async def prepare(self, db: Connection) -> None:
        """Called with each new connection."""

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        """Let the facts take effect, in the transaction that also stores the offsets."""
        raise NotImplementedError

    async def repeated(self, db: Connection, again: Sequence[Incoming]) -> None:
        """Facts at positions that have taken effect before. Most groups need not look."""


def receive(record: Record, group: Group, *, unread: Problem | None = None) -> Incoming:
    """The fact in a record, or what is wrong with it. Never raises. `unread`: why its body must not be looked into."""
    headers = record.headers
    order_id, position = _subject(record), None
    envelope = fact = None
    problem = unread
    try:
        envelope = open_envelope(headers, KAFKA_PREFIX)
        if envelope.subject != order_id:
            raise BadMessage(f"the subject is no identifier: {envelope.subject[:_MAX_SUBJECT]!r}")  # noqa: TRY301
        if record.key != envelope.subject.encode():  # it may lie in another partition than its order's: it has no place in line
            raise BadMessage(f"the record's key is not its subject: {(record.key or b'')[:_MAX_SUBJECT]!r}")  # noqa: TRY301
        if envelope.position is not None and not 0 < envelope.position <= _MAX_POSITION:
            raise BadMessage(f"there is no position {envelope.position}")  # noqa: TRY301
        position = envelope.position
        fact = None if unread else group.read(envelope, record.body)
    except Exception as error:  # noqa: BLE001  # whatever these bytes do to a decoder, the partition goes on
        problem = unread or Problem.of(Kind.UNREADABLE, error)
    return Incoming(
        partition=record.partition, offset=record.offset, key=record.key, order_id=order_id, position=position, headers=headers,
        body=record.body, envelope=envelope, fact=fact, problem=problem,
    )  # fmt: skip


def _subject(record: Record) -> str:
    key = (record.key or b"").decode(errors="replace")
    return printable(record.headers.get(f"{KAFKA_PREFIX}subject") or key)[:_MAX_SUBJECT]


def printable(text: str) -> str:
    """The text as PostgreSQL can hold it."""
    return text.replace("\x00", "\ufffd")


def fact_of(item: Incoming) -> FactBody:
    """The fact of an item that is about to take effect."""
    assert isinstance(item.fact, FactBody)
    return item.fact


def at_of(item: Incoming) -> datetime:
    return fact_of(item).occurred_at
