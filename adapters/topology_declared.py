"""The only place that reads the brokers' shape from `broker-config/` and says what it is for RabbitMQ of a given version.

Pure. What a priority queue is differs between versions: tried on 3.10 and 4.3.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

SOURCE: Final = Path(__file__).resolve().parent.parent / "broker-config"
COMMANDS: Final = "commands"
POISON: Final = "orders.dlq.poison"
HIGHEST_PRIORITY: Final = 5
_MOST_DELIVERIES: Final = 1_000

Kind = Literal["exchange", "queue", "binding", "policy", "topic", "retention"]
Problem = Literal["missing", "different", "extra"]
Definitions = dict[str, list[dict[str, Any]]]


class TopologyError(Exception):
    """A broker cannot be reached, refuses, or holds something that is not to be overwritten."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing in which a broker is not as declared; `by_hand` where `apply` will not change it."""

    broker: Literal["kafka", "rabbitmq"]
    kind: Kind
    name: str
    problem: Problem
    declared: Any = None
    found: Any = None
    by_hand: bool = False

    def __str__(self) -> str:
        detail = f" (declared {self.declared}, found {self.found})" if self.problem == "different" else ""
        return f"{self.broker} {self.kind} {self.name}: {self.problem}{detail}"


class Exchange(msgspec.Struct, frozen=True):
    name: str
    type: Literal["topic", "fanout"]


class Queue(msgspec.Struct, frozen=True):
    name: str
    kind: Literal["work", "tier", "dead"]


class Binding(msgspec.Struct, frozen=True):
    exchange: str
    queue: str
    routing_key: str


class RabbitTopology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    exchanges: list[Exchange]
    queues: list[Queue]
    bindings: list[Binding]


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    partitions: int
    replication_factor: int  # at most as many as there are brokers
    retention: Literal["setting", "forever"] = "setting"  # `kafka_retention_hours`, or until somebody deletes it


class KafkaTopology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topics: list[Topic]


def declared_rabbitmq() -> RabbitTopology:
    return msgspec.json.decode((SOURCE / "rabbitmq" / "topology.json").read_bytes(), type=RabbitTopology)


def declared_kafka() -> KafkaTopology:
    return msgspec.json.decode((SOURCE / "kafka" / "topics.json").read_bytes(), type=KafkaTopology)


def render(topology: RabbitTopology, version: str) -> Definitions:
    """The topology as RabbitMQ's own definitions, for a broker of that version; holds no users."""
    release = _release(version)
    return {
        "vhosts": [{"name": "/"}],
        "exchanges": [
            {"vhost": "/", "name": e.name, "type": e.type, "durable": True, "auto_delete": False, "internal": False, "arguments": {}}
            for e in topology.exchanges
        ],
        "queues": [
            {"vhost": "/", "name": q.name, "durable": True, "auto_delete": False, "arguments": _arguments(q, release)}
            for q in topology.queues
        ],
        "bindings": [
            {
                "vhost": "/", "source": b.exchange, "destination": b.queue, "destination_type": "queue",
                "routing_key": b.routing_key, "arguments": {},
            }
            for b in topology.bindings
        ],
        "policies": _policies(topology, release),
    }  # fmt: skip


def _release(version: str) -> tuple[int, int]:
    major, _, rest = version.partition(".")
    return int(major), int(rest.partition(".")[0])


def _arguments(queue: Queue, release: tuple[int, int]) -> dict[str, Any]:
    if queue.kind == "work":
        # From 4.3 on a plain quorum queue is strictly prioritised, and refuses x-max-priority. Before, only classic queues are.
        return {"x-queue-type": "quorum"} if release >= (4, 3) else {"x-max-priority": HIGHEST_PRIORITY}
    if queue.kind == "tier":
        # The delay is each message's own expiration; no routing key of ours, so that the command's leads it back.
        return {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": COMMANDS,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    # Looking at a letter and putting it back counts as a delivery; 4.x drops a message after 20 of them, unless told not to.
    # 3.x counts without a limit, and would take -1 for 0.
    return {"x-queue-type": "quorum"} | ({"x-delivery-limit": -1} if release >= (4, 0) else {})


def _policies(topology: RabbitTopology, release: tuple[int, int]) -> list[dict[str, Any]]:
    """A quorum work queue drops a message after 20 deliveries that nobody settled. It goes to the poison queue instead, and much
    later: what is put back because a dependency is away counts as a delivery too. What kills its worker the workers find.
    """
    if release < (4, 3):
        return []
    work = "|".join(queue.name for queue in topology.queues if queue.kind == "work")
    kept = {
        "dead-letter-exchange": POISON,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
        "delivery-limit": _MOST_DELIVERIES,
    }
    return [
        {
            "vhost": "/", "name": "work-poison", "pattern": f"^({work})$", "apply-to": "quorum_queues", "priority": 0,
            "definition": kept,
        }
    ]  # fmt: skip
