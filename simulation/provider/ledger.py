"""The only place that keeps the provider's own record: every movement of money, in memory and, flushed first, in a file."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from simulation.provider import intents
from simulation.provider.entries import Answered, Captured, Created, Entry, Movement, Refunded
from simulation.provider.intents import Intent


class Row(msgspec.Struct, frozen=True):
    """One intent as `GET /_sim/ledger` tells it. Amounts in minor units, times in seconds since the epoch."""

    intent: str
    order_id: str
    status: str
    currency: str
    amount_minor: int
    captured_minor: int
    refunded_minor: int
    captures: list[Captured]
    refunds: list[Refunded]
    attempts: int
    declines: list[str]
    faults: list[str]


class Totals(msgspec.Struct, frozen=True):
    intents: int
    captures: int
    refunds: int
    declines: int
    captured_minor: dict[str, int]  # by currency
    refunded_minor: dict[str, int]
    orders_captured_twice: dict[str, list[str]]  # order id → the intents that captured for it; must be empty


class Ledger:
    """Write-ahead: `append` has handed the entries to the operating system when it returns, so a SIGKILL loses none."""

    def __init__(self, path: Path | None = None) -> None:
        self.intents: dict[str, Intent] = {}
        self.refunds: dict[str, Refunded] = {}
        self.balance: Counter[str] = Counter()  # minor units by currency
        self.answers: list[Answered] = []  # as read from the file; the caller takes them over
        self.faults: dict[str, list[str]] = {}  # order id → what was injected into its requests, in order
        self._file: int | None = None
        self._unsynced = False
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._reload(path)

    def apply(self, movement: Movement) -> None:
        """Fold it into memory. The caller appends it before anybody is answered."""
        if isinstance(movement, Created):
            self.intents[movement.intent] = intents.begin(movement)
            return
        intent = self.intents[movement.intent]
        intents.apply(intent, movement)
        if isinstance(movement, Captured):
            self.balance[intent.made.currency] += movement.amount_minor
        if isinstance(movement, Refunded):
            self.refunds[movement.refund] = movement
            self.balance[intent.made.currency] -= movement.amount_minor

    def append(self, entries: Iterable[Entry]) -> None:
        """Hand the entries to the file in one write. Raises OSError (disk full); nobody must be answered then."""
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        if self._file is not None and lines:
            written = os.write(self._file, lines)
            if written != len(lines):
                raise OSError(f"the ledger took {written} of {len(lines)} bytes")
            self._unsynced = True

    def sync(self) -> None:
        """Make what was appended survive a power cut too. Blocking; called now and then from a thread."""
        if self._file is not None and self._unsynced:
            self._unsynced = False
            os.fsync(self._file)

    def close(self) -> None:
        self.sync()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def touched(self, order_id: str, fault: str) -> None:
        self.faults.setdefault(order_id, []).append(fault)

    def rows(self) -> list[Row]:
        return [self._row(intent) for intent in self.intents.values()]

    def totals(self) -> Totals:
        captured: dict[str, int] = {}
        refunded: dict[str, int] = {}
        by_order: dict[str, list[str]] = {}
        captures = declines = 0
        for intent in self.intents.values():
            currency = intent.made.currency
            captured[currency] = captured.get(currency, 0) + intent.captured_minor
            refunded[currency] = refunded.get(currency, 0) + intent.refunded_minor
            captures, declines = captures + len(intent.captures), declines + len(intent.declines)
            if intent.captures and intent.made.order_id:
                by_order.setdefault(intent.made.order_id, []).extend(intent.id for _ in intent.captures)
        twice = {order: ids for order, ids in by_order.items() if len(ids) > 1}
        return Totals(len(self.intents), captures, len(self.refunds), declines, captured, refunded, twice)

    def _row(self, intent: Intent) -> Row:
        return Row(
            intent.id,
            intent.made.order_id,
            intent.status,
            intent.made.currency,
            intent.made.amount_minor,
            intent.captured_minor,
            intent.refunded_minor,
            intent.captures,
            intent.refunds,
            intent.attempts,
            [decline.decline_code or decline.code for decline in intent.declines],
            self.faults.get(intent.made.order_id, []),
        )

    def _reload(self, path: Path) -> None:
        decoder = msgspec.json.Decoder(Entry)
        whole = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # torn by a power cut: it was never answered
                whole += len(line)
                entry: Entry = decoder.decode(line)
                if isinstance(entry, Answered):
                    self.answers.append(entry)
                else:
                    self.apply(entry)
        os.truncate(path, whole)
