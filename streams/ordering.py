"""The only place that puts facts in order: position n+1 takes effect after n, older ones never again, newer ones wait."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from streams.group import Incoming, Kind, Problem


class Plan(msgspec.Struct):
    """What becomes of a batch. `freed`: held rows that are held no longer. `positions`: of the orders that moved.

    `passed`: discarded ones whose turn came, or that have none: taken without effect. `rest`: those whose turn is to come.
    """

    apply: list[Incoming] = []
    repeated: list[Incoming] = []
    hold: list[Incoming] = []
    freed: list[Incoming] = []
    passed: list[Incoming] = []
    rest: list[Incoming] = []
    positions: dict[str, int] = {}


def plan(batch: Sequence[Incoming], positions: Mapping[str, int], held: Iterable[Incoming] = ()) -> Plan:
    """What becomes of these facts, given how far each order is and what is held of them. Pure."""
    return _Planner(positions).take(batch, held)


class _Planner:
    def __init__(self, positions: Mapping[str, int]) -> None:
        self._before = positions
        self._lines: dict[str, dict[int, Incoming]] = {}  # by order and position: what waits
        self._plan = Plan()

    def take(self, batch: Sequence[Incoming], held: Iterable[Incoming]) -> Plan:
        for item in held:
            self._take_held(item)
        for order_id in list(self._lines):
            self._drain(order_id)
        for item in batch:
            self._take_new(item)
        for line in self._lines.values():
            stirred = [item for item in line.values() if item.woken or not item.held]
            self._plan.hold += [self._waiting(item) for item in stirred if not item.discarded]
            self._plan.rest += [item for item in stirred if item.discarded]
        return self._plan

    def _at(self, order_id: str) -> int:
        return self._plan.positions.get(order_id) or self._before.get(order_id, 0)

    def _take_held(self, item: Incoming) -> None:
        if item.discarded and (item.position is None or item.position <= self._at(item.order_id)):
            self._plan.passed.append(item)
        elif item.position is None:
            if item.woken and item.problem is None:
                self._plan.freed.append(item)
            if item.woken:
                self._loose(item)
        elif item.position <= self._at(item.order_id):
            self._plan.freed.append(item)
        else:
            self._line_up(item, item.position)

    def _take_new(self, item: Incoming) -> None:
        order_id, position = item.order_id, item.position
        if position is None:
            self._loose(item)
        elif position <= self._at(order_id):
            self._plan.repeated.append(item)
        elif position == self._at(order_id) + 1 and item.problem is None and order_id not in self._lines:
            self._apply(item, position)
        else:
            self._line_up(item, position)
            self._drain(order_id)

    def _loose(self, item: Incoming) -> None:
        (self._plan.hold if item.problem else self._plan.apply).append(item)

    def _line_up(self, item: Incoming, position: int) -> None:
        line = self._lines.setdefault(item.order_id, {})
        other = line.get(position)
        if other is None:
            line[position] = item
            return
        mends = other.problem and not item.problem and not other.discarded
        better, worse = (item, other) if mends else (other, item)
        line[position] = better
        (self._plan.freed if worse.held else self._plan.repeated).append(worse)

    def _drain(self, order_id: str) -> None:
        line = self._lines[order_id]
        while (item := line.get(self._at(order_id) + 1)) is not None and (item.discarded or item.problem is None):
            position = self._at(order_id) + 1
            del line[position]
            if item.discarded:
                self._plan.positions[order_id] = position
                self._plan.passed.append(item)
                continue
            self._apply(item, position)
            if item.held:
                self._plan.freed.append(item)
        if not line:
            del self._lines[order_id]

    def _apply(self, item: Incoming, position: int) -> None:
        self._plan.apply.append(item)
        self._plan.positions[item.order_id] = position

    def _waiting(self, item: Incoming) -> Incoming:
        if item.problem is not None:
            return item
        reason = f"waits for position {self._at(item.order_id) + 1}"
        return msgspec.structs.replace(item, problem=Problem(Kind.GAP, reason))
