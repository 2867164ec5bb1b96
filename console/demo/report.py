"""The only place that writes the demonstration's report: for people in the terminal, for programs as JSON."""

from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from console.demo.entries import in_words
from console.demo.invariants import Invariant
from console.demo.targets import Spread, Target


class Report(msgspec.Struct, kw_only=True):
    """What happened. `orders`: counts by final state; `messages`: how many entered, and where each of them is; the exit code is 0
    only where `passed`.
    """

    orders: dict[str, Any]
    messages: dict[str, Any]
    slo: dict[str, Target]
    invariants: dict[str, Invariant]
    faults: dict[str, Any]
    about: dict[str, Any]

    @property
    def passed(self) -> bool:
        return all(i.ok for i in self.invariants.values()) and all(t.held for t in self.slo.values())


def write(report: Report, path: Path) -> None:
    """Leave it for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    slo = {
        name: {**msgspec.to_builtins(target), **{p: getattr(target.measured, p) for p in ("p50", "p95", "p99")}}
        for name, target in report.slo.items()
    }
    whole = {**msgspec.to_builtins(report), "slo": slo, "passed": report.passed}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")


def show(report: Report, out: Console) -> None:
    """Print it for people."""
    _orders(report, out)
    _messages(report, out)
    _targets(report, out)
    _invariants(report, out)
    _faults(report, out)


def _orders(report: Report, out: Console) -> None:
    table = Table("orders", "", title="Orders by final state", title_justify="left")
    for state, count in report.orders.items():
        table.add_row(state, str(count))
    out.print(table)


def _messages(report: Report, out: Console) -> None:
    table = Table("message", "entered", "where they are", title="Messages that entered", title_justify="left")
    for kind, counts in report.messages["commands"].items():
        table.add_row(kind, str(counts["entered"]), in_words(counts))
    for topic, count in report.messages["facts"].items():
        table.add_row(f"facts on {topic}", str(count), "see facts_applied_once")
    out.print(table)


def _targets(report: Report, out: Console) -> None:
    table = Table("target", "held", "limit", "p50", "p95", "p99", "orders", "touched by a fault: p50 / p99 / orders",
                  title="Targets, measured from the outside", title_justify="left")  # fmt: skip
    for name, target in report.slo.items():
        measured, touched = target.measured, target.touched_by_faults
        table.add_row(
            name,
            "[green]yes[/]" if target.held else "[red]no[/]",
            f"{target.percentile} < {target.limit:g} {target.unit}",
            *(_number(value) for value in (measured.p50, measured.p95, measured.p99)),
            str(measured.count),
            _brief(touched),
        )
    out.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _brief(spread: Spread) -> str:
    return f"{_number(spread.p50)} / {_number(spread.p99)} / {spread.count}"


def _invariants(report: Report, out: Console) -> None:
    table = Table("invariant", "holds", "checked", "what", title="Invariants", title_justify="left")
    for name, invariant in report.invariants.items():
        mark = "[green]yes[/]" if invariant.ok else "[red]no[/]"
        table.add_row(name, mark, str(invariant.count), "\n".join([invariant.checked, *invariant.broken]))
    out.print(table)


def _faults(report: Report, out: Console) -> None:
    table = Table("fault", "what was done", "what became of it", title="Injected", title_justify="left")
    for name, fault in report.faults.items():
        table.add_row(name, str(fault["injected"]), str(fault["became"]))
    out.print(table)
