"""The only place for `rushline audit erase`: destroys a customer's keys, so that nobody can read what is personal any more."""

import click
import msgspec

from console.dlq_base import AS, REASON, Refused, done, now
from console.dlq_words import plain
from outbox.erasure import Erasure


@click.command(short_help="Erase what is personal of a customer; the record stays whole.")
@click.argument("customer_id")
@REASON
@click.option("--dry-run", is_flag=True, help="Check and show what would be erased; change nothing.")
@AS
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def erase(customer_id: str, *, reason: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Destroy the keys of CUSTOMER_ID and blank the addresses of their orders, for good.

    Refused while an order is under way or a dispute is open. Chains and log stay as they are and still verify; the erasure is
    itself on record. docs/support.md says what stays in clear elsewhere, and for how long.
    """
    from outbox import erasure

    async def work(conn: object) -> Erasure:
        at = now()
        return await erasure.erase(
            conn,  # type: ignore[arg-type]  # `done` hands a connection
            customer_id, reason=reason, actor=actor, cause=f"erase/{customer_id}/{at.isoformat()}", now=at, dry_run=dry_run,
        )  # fmt: skip

    if not (customer_id.isprintable() and customer_id.strip()):
        raise Refused("This is no customer's id.", "Take one from GET /v1/support/orders.")
    told = done(work)
    if as_json:
        click.echo(msgspec.json.encode(told).decode())
        return
    verb = "would be" if dry_run else "were"
    click.echo(plain(
        f"{told.customer_id}: {len(told.keys)} keys {verb} destroyed, the addresses of {told.orders} orders blanked, "
        f"{told.places} places and {told.letters} letters forgotten."
    ))  # fmt: skip
