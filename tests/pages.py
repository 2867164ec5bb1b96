"""Pages of docs/ that are made from code. `python -m tests.pages` writes them; a test holds them together with it."""

from collections.abc import Callable
from typing import Any, Final

from gateway.problems import BASE, CATALOGUE
from orders.lifecycle import FAILURES, TABLE, diagram
from orders.names import State, audit_action
from outbox.letters.library import LIBRARY
from tests.audit_example import audit_format_page
from tests.making import REPOSITORY


def lifecycle_page() -> str:
    """What docs/lifecycle.md must say."""
    head = (
        "# The life of an order\n\n"
        "`orders/lifecycle.py` holds this as one table, and nothing else decides what may happen to an order. This page is made\n"
        "from it; a test holds the two together. To write it again:\n\n"
        "    .venv/bin/python -m tests.pages\n\n"
        "Final states are `delivered`, `payment_failed` and `cancelled`. Money is beside the state: whatever was captured for an\n"
        "order that will not be delivered goes back, by the command `payment.refund` that ends each such row. A step that begins\n"
        "and ends in the same state keeps what the order waits for, and its deadline unless the row sets one.\n\n"
        f"```mermaid\n{diagram()}```\n\n"
    )
    lines = ["| action | from | to | who | facts | audit actions | commands | deadline |", "|---|---|---|---|---|---|---|---|"]
    for row in TABLE:
        start = "any" if row.start == frozenset(State) else ", ".join(sorted(row.start)) or "(new)"
        cells = [
            row.action.value, start, row.to.value if row.to else "(stays)", ", ".join(sorted(row.by)), _codes(row.facts),
            _codes(audit_action(fact) for fact in row.facts), _codes(row.commands), row.deadline.value if row.deadline else "",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return head + "\n".join(lines) + "\n\n" + _failures()


def _failures() -> str:
    lines = [
        "A row may be the answer to a failure of the order. That failure is then written down, resolved, among the dead letters, in the",
        "transaction of the row, so that every failure of an order is in one place.",
        "",
        "| action | reason | failure |",
        "|---|---|---|",
    ]
    for action, reasons in FAILURES.items():
        other = "any other" if len(reasons) > 1 else "any"
        lines += [
            f"| {action.value} | {f'`{why}`' if why else other} | `{failure.value}` |" for why, failure in reasons.items()
        ]
    return "\n".join(lines) + "\n"


def _codes(names: Any) -> str:
    return " ".join(f"`{name}`" for name in names)


def problems_page() -> str:
    """What docs/problems.md must say."""
    head = (
        "# Problems\n\n"
        "Errors of the HTTP interface are RFC 9457 problem details (`application/problem+json`). `type` is stable: it is\n"
        f"`{BASE}` and the name below. `errors`, where present, names each field and what is wrong\n"
        "with it. This page is made from `gateway/problems.py`; to write it again:\n\n"
        "    .venv/bin/python -m tests.pages\n\n"
    )
    lines = ["| name | status | what it means | what to do |", "|---|---|---|---|"]
    lines += [f"| `{kind.slug}` | {kind.status} | {kind.title} | {kind.remedy} |" for kind in CATALOGUE]
    return head + "\n".join(lines) + "\n"


def fixes_page() -> str:
    """What docs/fixes.md must say."""
    head = (
        "# Automatic fixes\n\n"
        "A rule names the letters that it is about (`match`), what is done with them (`action`), how often an hour and how often for\n"
        "one letter, and until when. The first rule that is about a letter and not used up on it takes it: people's before those\n"
        "of the library, then by name. A rule is used at most once for one failure of a letter, never on a letter or group that is\n"
        "snoozed, and every use is in the letter's history and in the audit trail of its order.\n\n"
        "Refused are rules that match everything, that would send the same again without a bound, that patch what moves money or\n"
        "give up a refund. `rushline dlq rules dry-run` says what a rule would have done to past letters; nothing is written.\n\n"
        "```json\n"
        '{"name": "sms-template-typo", "match": {"types": ["notification.sms"],\n'
        '  "body": [{"path": "$.template", "equals": "payment_faild"}]},\n'
        ' "action": {"do": "patch", "patch": {"template": "payment_failed"}},\n'
        ' "per_hour": 100, "per_letter": 1, "expires_at": "2026-06-01T00:00:00Z"}\n'
        "```\n\n"
        "| match | |\n|---|---|\n"
        "| `fingerprint`, `category`, `consumer`, `reason`, `error` | one value |\n"
        "| `failure_types`, `types` | any of several |\n"
        "| `min_attempts`, `max_attempts`, `min_generation`, `max_generation` | bounds; how often it was parked is its generation |\n"
        "| `body` | conditions on one place each: `path` (of RFC 9535: `$.a['b'][0]`) with `equals`, `in` or `exists` |\n\n"
        "| action | |\n|---|---|\n"
        '| `{"do": "replay"}` | send it again as it is |\n'
        '| `{"do": "patch", "patch": {…}}` | apply a JSON Merge Patch (RFC 7396), then send it again |\n'
        '| `{"do": "delay", "for_s": 900}` or `"until": "…"` | snooze it until then, then send it again |\n'
        '| `{"do": "compensate", "reason": "…"}` | cancel its order, which undoes what was done for it |\n'
        '| `{"do": "discard", "reason": "…", "after_s": 86400}` | give it up, so long after it was parked |\n\n'
        "## The library\n\n"
        "Shipped with the system, made from `outbox/letters/library.py`. They can be switched and limited; to change what one does,\n"
        "copy it under another name. To write this page again:\n\n"
        "    .venv/bin/python -m tests.pages\n\n"
    )
    lines = ["| rule | shipped | an hour | a letter | why |", "|---|---|---|---|---|"]
    for fix in LIBRARY:
        state = "on" if fix.enabled else "off"
        lines.append(f"| `library/{fix.name}` | {state} | {fix.per_hour} | {fix.per_letter} | {fix.description} |")
    return head + "\n".join(lines) + "\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "lifecycle.md": lifecycle_page,
    "problems.md": problems_page,
    "fixes.md": fixes_page,
    "audit-format.md": audit_format_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (REPOSITORY / "docs" / name).write_text(page())
