"""The only place for `rushline token`: a bearer token for a role, for trying things out."""

import json
import re
from datetime import timedelta
from typing import Final

import click

from adapters.settings import load_settings
from orders.names import Role

_LIFETIME: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST: Final = timedelta(days=365)


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
    """Make a bearer token, signed with RUSHLINE_JWT_SECRET. For `Authorization: Bearer …`."""
    from gateway.auth import issue  # Litestar is slow to import, and help needs none

    if not subject.strip() or not subject.isprintable() or len(subject) > 128:  # noqa: PLR2004  # as gateway/auth.py reads it
        raise click.BadParameter("give 1 to 128 printable characters", param_hint="--sub")
    made = issue(load_settings(), Role(role), subject, lifetime)
    if as_json:
        print(json.dumps({"token": made, "role": role, "sub": subject, "expires_in_s": int(lifetime.total_seconds())}))
    else:
        print(made)
