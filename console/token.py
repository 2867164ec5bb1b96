"""The only place for `rushline token`: a bearer token for a role, for trying things out."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Final

import click

from adapters.settings import Settings, load_settings
from orders.names import Role

_LIFETIME: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST: Final = timedelta(days=365)
STAFF: Final = frozenset({Role.SUPPORT, Role.OPERATOR, Role.AUDITOR})  # who sees and changes what belongs to others


class Lifetime(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """A number with its unit: 90s, 15m, 1h, 7d."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        match = _LIFETIME.fullmatch(str(value))
        lifetime = timedelta(seconds=int(match[1]) * _SECONDS[match[2]]) if match else None
        if lifetime is None or lifetime > _LONGEST:
            self.fail(f"{value!r} is no time; give a number with its unit, like 90s, 15m, 1h or 7d (at most 365d)", param, ctx)
        return lifetime


@click.command()
@click.option(
    "--role", required=True, type=click.Choice([r.value for r in Role if r is not Role.SYSTEM]), help="What it opens."
)
@click.option("--sub", "subject", required=True, help="Whom it speaks for, as cus_…, rst_… or drv_….")
@click.option("--ttl", "lifetime", default="1h", type=Lifetime(), show_default=True, help="How long it is valid.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def token(*, role: str, subject: str, lifetime: timedelta, as_json: bool) -> None:
    """Make a bearer token, signed with RUSHLINE_JWT_SECRET. For `Authorization: Bearer …`.

    A token for staff (support, operator, auditor) goes on record in the audit trail, or is not made.
    """
    from gateway.auth import issue  # Litestar is slow to import, and help needs none

    if not subject.strip() or not subject.isprintable() or len(subject) > 128:  # noqa: PLR2004  # as gateway/auth.py reads it
        raise click.BadParameter("give 1 to 128 printable characters", param_hint="--sub")
    settings = load_settings()
    made = issue(settings, Role(role), subject, lifetime)
    if Role(role) in STAFF:
        _on_record(settings, Role(role), subject, lifetime)
    if as_json:
        print(json.dumps({"token": made, "role": role, "sub": subject, "expires_in_s": int(lifetime.total_seconds())}))
    else:
        print(made)


class NotOnRecord(click.ClickException):
    """The audit trail cannot say that this role was granted, so it is not."""

    exit_code = 2
    remedy: Final = "`rushline up` starts the local database; elsewhere see RUSHLINE_POSTGRES_DSN, and `rushline migrate`."


def _on_record(settings: Settings, role: Role, subject: str, lifetime: timedelta) -> None:
    from adapters.postgres import DatabaseUnavailable, PostgresError
    from console.granting import granted

    try:
        asyncio.run(granted(settings, role, subject, lifetime))
    except (DatabaseUnavailable, PostgresError) as error:
        why = f"A token for {role.value} must be on record, and the audit trail cannot be written: {error}"
        raise NotOnRecord(f"{why}\n{NotOnRecord.remedy}") from error
