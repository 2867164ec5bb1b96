"""The only place that follows the chains of an export: where the record breaks, and how.

Standard library only. Memory grows with the number of chains, not with that of events.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from orders.chain import GENESIS
from orders.exported import Exported, LineRefused, read_line

AHEAD: Final = timedelta(minutes=5)
MOST: Final = 1_000
_SHORT: Final = 16


@dataclass(frozen=True, slots=True)
class Break:
    """One place at which the record breaks. `line` counts from 1; None for what is in no line."""

    kind: str
    sentence: str
    line: int | None = None
    chain: str | None = None
    position: int | None = None
    event_id: str | None = None
    said: str | None = None
    found: str | None = None


@dataclass(slots=True)
class _Chain:
    position: int
    hash: str
    gaps: dict[int, int] = field(default_factory=dict)  # missing position → which break says so


class Check:
    """Takes lines, keeps what breaks."""

    def __init__(self, now: datetime, *, from_start: bool) -> None:
        """`from_start`: each chain begins in this export. Otherwise the first event of each is taken as it is."""
        self._latest, self._from_start = now + AHEAD, from_start
        self._chains: dict[str, _Chain] = {}
        self.breaks: list[Break] = []
        self.events = self.more = self.taken_on_trust = 0

    @property
    def chains(self) -> int:
        return len(self._chains)

    def lines(self, lines: Iterable[bytes]) -> Iterator[Exported | None]:
        """Each line's event, checked; None for a line that is none."""
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                self.add("truncated", f"Line {number} does not end: the file was cut off.", line=number)
            try:
                event = read_line(number, line.removesuffix(b"\n"))
            except LineRefused as error:
                self.add(error.kind, f"Line {number} is no audit event: {error}.", line=number)
                yield None
                continue
            self.events += 1
            self._own(event)
            self._link(event)
            yield event

    def add(self, kind: str, sentence: str, **where: Any) -> int:
        """Keep a break, unless there are very many; its place in the list."""
        if len(self.breaks) >= MOST:
            self.more += 1
            return -1
        self.breaks.append(Break(kind, sentence, **where))
        return len(self.breaks) - 1

    def _own(self, event: Exported) -> None:
        if event.hash != event.computed:
            self.add(
                "edited", f"{_place(event)} was edited: its hash is not the hash of its contents.", **_where(event),
                said=event.hash, found=event.computed,
            )  # fmt: skip
        if event.occurred_at > self._latest:
            at = event.occurred_at.isoformat()
            self.add("future", f"{_place(event)} is from the future: {at}.", **_where(event), found=at)

    def _link(self, event: Exported) -> None:
        chain = self._chains.get(event.chain)
        if chain is None:
            chain = self._chains[event.chain] = _Chain(0, GENESIS)
            if not self._from_start and event.position > 1:
                self.taken_on_trust += 1
                chain.position, chain.hash = event.position - 1, event.prev_hash
        expected = chain.position + 1
        if event.position > expected:
            self._gap(event, chain, expected)
        elif event.position < expected:
            self._back(event, chain)
            return
        elif event.prev_hash != chain.hash:
            self.add(
                "link", f"{_place(event)} continues {event.prev_hash[:_SHORT]}…, and the event before it has {chain.hash[:_SHORT]}….",
                **_where(event), said=event.prev_hash, found=chain.hash,
            )  # fmt: skip
        chain.position, chain.hash = event.position, event.hash

    def _gap(self, event: Exported, chain: _Chain, expected: int) -> None:
        gone = (
            f"event at position {expected} is"
            if event.position == expected + 1
            else f"events at positions {expected} to {event.position - 1} are"
        )
        which = self.add(
            "gap", f"The {gone} gone from {event.chain}: line {event.line} goes on with position {event.position}.", line=event.line,
            chain=event.chain, position=expected, said=event.prev_hash, found=chain.hash,
        )  # fmt: skip
        chain.gaps.update(dict.fromkeys(range(expected, min(event.position, expected + MOST)), which))

    def _back(self, event: Exported, chain: _Chain) -> None:
        which = chain.gaps.pop(event.position, None)
        if which is None:
            sentence = f"{_place(event)} was put in: {event.chain} has come to position {chain.position} before it."
            self.add("inserted", sentence, **_where(event))
        elif which >= 0:
            old = self.breaks[which]
            sentence = (
                f"Events of {event.chain} were swapped: line {old.line} should have position {old.position}, and that of position "
                f"{event.position} is in line {event.line}."
            )
            self.breaks[which] = replace(old, kind="swapped", sentence=sentence, event_id=event.event_id)


def _place(event: Exported) -> str:
    return f"Line {event.line} ({event.event_id}, {event.chain} at position {event.position})"


def _where(event: Exported) -> dict[str, Any]:
    return {"line": event.line, "chain": event.chain, "position": event.position, "event_id": event.event_id}
