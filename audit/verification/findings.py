"""The only place for what a verification finds: where the record breaks, what is said there, and what is the case."""

from enum import StrEnum
from typing import Final

import msgspec

MOST: Final = 1_000  # kept of each kind; the others are counted


class Kind(StrEnum):
    """How a record can break."""

    UNREADABLE = "unreadable"  # no event, too large, or not canonical
    EDITED = "edited"  # its hash is not the hash of its contents
    COLUMN = "column"  # a column says something else than the event
    LINK = "link"  # it does not continue its chain
    GAP = "gap"  # positions of a chain are missing
    FUTURE = "future"
    REPEATED = "repeated"  # two events at one leaf, or at one position
    MISSING_LEAF = "missing-leaf"
    TRUNCATED = "truncated"  # the tail of the log is gone
    REPLACED = "replaced"  # another event stands at this leaf than the one that was hashed into the tree
    SWAPPED = "swapped"
    INSERTED = "inserted"
    REMOVED = "removed"  # a leaf was taken out, and those after it moved up
    UNEXPECTED = "unexpected"  # leaves that nobody gave
    TILE = "tile"  # hashes that are stored are not those of the events
    ROOT = "root"  # the events are not those that a checkpoint was signed for
    FORK = "fork"  # two signed histories of one size
    SIGNATURE = "signature"  # a checkpoint that nobody we know signed
    HEAD = "head"
    ORDER = "order"  # an order's own record and the ledger differ
    SET_ASIDE = "set-aside"  # the audit stream could not fit it


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One break. `leaf` and `position` as far as they are known; `said` and `found` where there are two to compare."""

    kind: Kind
    sentence: str
    leaf: int | None = None
    chain: str | None = None
    position: int | None = None
    event_id: str | None = None
    source: str | None = None
    said: str | None = None
    found: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked, how much of it, and where the record breaks: the first break first."""

    first_leaf: int
    end_leaf: int
    events: int
    chains: int
    checkpoints: int
    checkpoint_sources: list[str]
    root: str
    seconds: float
    findings: list[Finding] = []
    more: int = 0
    on_their_way: int = 0
    not_checked: list[str] = []

    @property
    def whole(self) -> bool:
        return not self.findings


class Findings:
    """Collects them, as many of each kind as somebody can read, and counts the rest."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._of: dict[Kind, int] = {}

    def add(self, kind: Kind, sentence: str, **where: object) -> None:
        """Keep this one, unless there are very many like it."""
        self.take(Finding(kind=kind, sentence=sentence, **where))  # type: ignore[arg-type]  # its fields

    def take(self, finding: Finding) -> None:
        """Keep one that was made elsewhere."""
        self._of[finding.kind] = self._of.get(finding.kind, 0) + 1
        if self._of[finding.kind] <= MOST:
            self._found.append(finding)

    def __len__(self) -> int:
        return sum(self._of.values())

    def __contains__(self, kind: Kind) -> bool:
        return kind in self._of

    def at(self, leaf: int) -> bool:
        """Whether this leaf is known to be broken."""
        return any(finding.leaf == leaf for finding in self._found)

    def say(self, finding: Finding, more: str, **where: object) -> Finding:
        """Add a sentence to this one, and what is known by now."""
        said = msgspec.structs.replace(finding, sentence=finding.sentence + more, **where)
        self._found[self._found.index(finding)] = said
        return said

    @property
    def more(self) -> int:
        return len(self) - len(self._found)

    def in_order(self) -> list[Finding]:
        """By leaf; those that are at none come last."""
        return sorted(self._found, key=lambda each: (each.leaf is None, each.leaf or 0, each.position or 0))
