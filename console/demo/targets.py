"""The latency targets, measured from the outside. Orders touched by an injected fault are reported apart, not left out."""

from collections.abc import Iterator
from typing import Final

import msgspec

from console.demo.evidence import Evidence


class Spread(msgspec.Struct, frozen=True):
    """Nearest-rank percentiles."""

    count: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    worst: float | None = None


class Target(msgspec.Struct, frozen=True):
    """One promise about time: its definition, its limit, what was measured, whether it held."""

    definition: str
    unit: str
    percentile: str
    limit: float
    held: bool
    measured: Spread
    touched_by_faults: Spread


class _Kind(msgspec.Struct, frozen=True):
    definition: str
    unit: str
    percentile: str
    limit: float


KINDS: Final = {
    "payment_confirmed": _Kind(
        "from the customer sending the order to the provider's own record of the capture", "s", "p99", 3.0
    ),
    "restaurant_notified": _Kind(
        "from the customer sending the order to the restaurant's first webhook about it", "s", "p99", 10.0
    ),
    "driver_assigned": _Kind("from the restaurant's yes to the push on the first driver's phone", "s", "p95", 120.0),
    "api": _Kind("POST /v1/orders as the customer's client measures it, first attempts", "ms", "p99", 200.0),
}  # fmt: skip


def _samples(e: Evidence, name: str) -> Iterator[tuple[str, float, float, float]]:
    """Order, value, and the span of time in which a fault would have touched it."""
    for order_id, placed in e.placed.items():
        sent = placed.sent_at
        match name:
            case "payment_confirmed":
                charge = e.charged.get(order_id)
                end = charge.captures[0] if charge and charge.captures else None
                begin = sent
            case "restaurant_notified":
                begin, end = sent, e.notified.get(order_id)
            case "driver_assigned":
                begin, end = e.accepted.get(order_id, sent), e.assigned.get(order_id) if order_id in e.accepted else None
            case _:
                if placed.attempts == 1:
                    yield order_id, placed.latency_ms, sent, sent + placed.latency_ms / 1000
                continue
        if end is not None:
            yield order_id, max(0.0, end - begin), begin, end


def _touched(e: Evidence, order_id: str, begin: float, end: float) -> bool:
    charge = e.charged.get(order_id)
    if charge and charge.faults:
        return True
    return any(window.begins <= end and begin <= window.ends for window in e.deeds.windows)


def spread(values: list[float]) -> Spread:
    """Percentiles by nearest rank; none where there are no values."""
    if not values:
        return Spread(0)
    ordered = sorted(values)
    p50, p95, p99 = (round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 3) for p in (50, 95, 99))
    return Spread(len(ordered), p50, p95, p99, round(ordered[-1], 3))


def measure_all(evidence: Evidence) -> dict[str, Target]:
    """Every target, by name. One without a single measurement has not held."""
    targets = {}
    for name, kind in KINDS.items():
        clear: list[float] = []
        touched: list[float] = []
        for order_id, value, begin, end in _samples(evidence, name):
            (touched if _touched(evidence, order_id, begin, end) else clear).append(value)
        measured = spread(clear)
        at = getattr(measured, kind.percentile)
        held = at is not None and at < kind.limit
        targets[name] = Target(
            kind.definition, kind.unit, kind.percentile, kind.limit, held, measured, spread(touched)
        )  # fmt: skip
    return targets
