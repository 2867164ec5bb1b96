"""The only place where customers write down what happened to them: in memory, and line by line in a file."""

from collections import Counter
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from simulation.serving import now

Status = Literal["sent", "accepted", "refused", "given_up"]
_ENCODER: Final = msgspec.json.Encoder()


class Cancelled(msgspec.Struct, frozen=True):
    """The customer's cancellation: in which state it was wished, and what the gateway said (409: too late)."""

    at: str
    state_seen: str
    status: int


class Resolved(msgspec.Struct, frozen=True):
    """The customer's answer to an unavailable item, and what the gateway said to it."""

    at: str
    choice: str
    status: int


class Streamed(msgspec.Struct):
    """What was seen of the order's event stream. `gaps`: ids that did not follow their predecessor."""

    last_id: int = 0
    connections: int = 0
    events: list[str] = []
    gaps: int = 0


class Record(msgspec.Struct, kw_only=True):
    """One order, from the outside. Amounts in minor units; `latency_ms` is that of the last request alone.

    `attempts` above 1: the answer was uncertain for a while, and the same key was sent again.
    """

    n: int
    status: Status = "sent"
    order_id: str | None = None
    customer_id: str
    restaurant_id: str
    city: str
    payment_method_id: str
    plot: str
    key: str
    sent_at: str
    accepted_at: str | None = None
    latency_ms: float | None = None
    total_ms: float | None = None
    attempts: int = 0
    http_status: int | None = None
    problem: str | None = None
    subtotal: int | None = None
    delivery_fee: int | None = None
    total: int | None = None
    currency: str | None = None
    warnings: int = 0
    cancelled: Cancelled | None = None
    resolved: Resolved | None = None
    streamed: Streamed | None = None
    outcome: str | None = None
    outcome_at: str | None = None

    def ends(self, state: str) -> None:
        self.outcome, self.outcome_at = state, now()


class Book:
    """All records. In the file each line is one record as it was then; the last line of an `n` is how it is."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0) if path is not None else None
        self.records: list[Record] = []
        self.by_order: dict[str, Record] = {}
        self.counts: Counter[str] = Counter()

    def open(self, record: Record) -> None:
        self.records.append(record)

    def write(self, record: Record) -> None:
        """Put the record on file as it is now."""
        if record.order_id is not None:
            self.by_order[record.order_id] = record
        if self._file is not None:
            self._file.write(_ENCODER.encode(record) + b"\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def summary(self) -> dict[str, Any]:
        """Counts, and latencies of all that was accepted at the first attempt; of what took several, apart."""
        first = sorted(r.latency_ms for r in self.records if r.latency_ms is not None and r.attempts == 1 and r.order_id)
        again = sorted(r.total_ms for r in self.records if r.total_ms is not None and r.attempts > 1 and r.order_id)
        return {
            "counts": dict(self.counts),
            "status": Counter(r.status for r in self.records),
            "plots": Counter(r.plot for r in self.records if r.order_id),
            "problems": Counter(f"{r.http_status} {r.problem}" for r in self.records if r.status == "refused"),
            "outcomes": Counter(r.outcome or "not_seen" for r in self.records if r.order_id),
            "latency_ms": quantiles(first),
            "retried_total_ms": quantiles(again),
        }


def quantiles(ordered: list[float]) -> dict[str, float | int]:
    """p50, p95, p99 and the worst, by nearest rank."""
    if not ordered:
        return {"n": 0}
    ranked = {f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 2) for p in (50, 95, 99)}
    return {"n": len(ordered), **ranked, "max": round(ordered[-1], 2)}
