"""The only place where settings come from: the environment, read once, checked, frozen."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, get_type_hints

import msgspec

PREFIX: Final = "RUSHLINE_"
_LAST_PORT: Final = 65_535
_HUGE: Final = 1e9


class BadSettingError(Exception):
    """A setting is unknown or cannot be used. The message names it and the remedy; processes refuse to start."""

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        super().__init__(f"{name}: {problem}. {remedy}")
        self.name = name


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting with its default for the local stack. `RUSHLINE_HTTP_PORT` sets `http_port`, and so on."""

    home: str = "."  # the folder whose var/ holds the local stack's data, users and reports

    # Where the servers are.
    postgres_dsn: str = "postgresql://rushline_app@127.0.0.1:55432/rushline"
    migrate_dsn: str = ""  # the owner of the schema; empty: the same as postgres_dsn
    audit_dsn: str = ""  # who writes the ledger; empty: the same server as postgres_dsn
    audit_reader_dsn: str = ""  # who reads it; empty: the same as audit_dsn
    audit_migrate_dsn: str = ""  # the owner of the ledger's schema; empty: the same as migrate_dsn
    rabbitmq_url: str = "amqp://rushline@127.0.0.1:55672/"
    rabbitmq_management_url: str = "http://rushline@127.0.0.1:55673"
    kafka_bootstrap: str = "127.0.0.1:59092"

    # What the gateway offers.
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    public_url: str = ""  # what restaurants and customers call; empty: http://{http_host}:{http_port}
    jwt_secret: str = ""  # at least 32 characters; `rushline up` makes one for the local stack
    max_body_bytes: int = 65_536

    # Whom we call.
    stripe_api_base: str = "http://127.0.0.1:58101"
    stripe_api_key: str = ""
    stripe_webhook_secret: str = ""
    stripe_timeout_ms: int = 5_000
    webhook_timeout_ms: int = 3_000
    sms_api_base: str = "http://127.0.0.1:58102"
    push_api_base: str = "http://127.0.0.1:58102"
    messaging_timeout_ms: int = 3_000

    # Business time. 1 is real time; 60 lets a business minute pass in a second.
    time_scale: float = 1.0
    restaurant_answer_s: int = 300
    driver_search_s: int = 600
    driver_escalation_s: int = 600  # how much longer the search goes on once support looks too
    pick_up_s: int = 1_200
    delivery_s: int = 5_400
    customer_decision_s: int = 300
    stuck_s: int = 1_800  # longer than all the delay tiers together
    closing_soon_s: int = 900
    reroute_without_asking: bool = True  # a rejected order goes to another restaurant that costs no more; else it is cancelled

    # How the moving parts run.
    database_pool_size: int = 8
    relay_batch_rows: int = 2_000  # to Kafka; half as many to RabbitMQ, where each message has a confirm of its own
    relay_idle_ms: int = 100
    relay_lease_ms: int = 1_500
    publish_timeout_ms: int = 5_000
    worker_concurrency: int = 16
    stream_batch_rows: int = 500
    stream_linger_ms: int = 20
    clock_tick_ms: int = 500
    metrics_port: int = 0  # 0: no metrics port of its own; the gateway always serves /metrics
    events_hot_days: int = 30
    kafka_retention_hours: int = 168

    # The audit log.
    audit_origin: str = "rushline.example/audit"  # the log's name in its checkpoints and keys: chosen once, never changed
    audit_keys_file: str = ""  # private keys that sign checkpoints; empty: {home}/var/audit/keys
    audit_checkpoints: str = ""  # the folder that keeps every signed checkpoint; empty: {home}/var/audit/checkpoints
    audit_checkpoint_ms: int = 2_000  # how often new events enter the tree and its root is signed
    audit_witnesses: str = ""  # `<url> <verifier key>`, several separated by commas: who cosigns checkpoints
    audit_hot_days: int = 90  # in PostgreSQL; older ones are in the archive
    audit_keep_days: int = 730  # altogether; then dropped, with a signed statement
    archive_url: str = ""  # file:///… or s3://…; empty: nothing is archived, and nothing leaves PostgreSQL

    log_level: str = "info"

    def scaled_s(self, business_seconds: float) -> float:
        """Seconds on the wall for so many seconds of business time."""
        return business_seconds / self.time_scale

    @property
    def audit_url(self) -> str:
        return self.audit_dsn or self.postgres_dsn

    @property
    def audit_reader_url(self) -> str:
        return self.audit_reader_dsn or self.audit_url

    @property
    def audit_migrate_url(self) -> str:
        return self.audit_migrate_dsn or self.migrate_url

    @property
    def audit_folder(self) -> Path:
        """Where the log's keys and checkpoints are, unless their own settings say otherwise."""
        return Path(self.home) / "var" / "audit"

    @property
    def migrate_url(self) -> str:
        return self.migrate_dsn or self.postgres_dsn

    @property
    def base_url(self) -> str:
        return self.public_url or f"http://{self.http_host}:{self.http_port}"


_POSITIVE: Final = frozenset(
    {
        "time_scale", "max_body_bytes", "stripe_timeout_ms", "webhook_timeout_ms", "messaging_timeout_ms",
        "restaurant_answer_s", "driver_search_s", "driver_escalation_s", "pick_up_s", "delivery_s", "customer_decision_s", "stuck_s",
        "closing_soon_s", "database_pool_size", "relay_batch_rows", "relay_idle_ms", "relay_lease_ms",
        "publish_timeout_ms", "worker_concurrency", "stream_batch_rows", "stream_linger_ms", "clock_tick_ms",
        "events_hot_days", "kafka_retention_hours", "audit_checkpoint_ms", "audit_hot_days", "audit_keep_days",
    }
)  # fmt: skip


def load_settings(environ: Mapping[str, str] | None = None, local: Path | None = None) -> Settings:
    """Settings from the environment over those of the local stack (`var/local.env`, written by `rushline up`).

    Raises `BadSettingError` for an unknown `RUSHLINE_` name (with the nearest known one) and for a value out of range.
    """
    env = os.environ if environ is None else environ
    given = {**_read_local(local), **{k: v for k, v in env.items() if k.startswith(PREFIX)}}
    hints = get_type_hints(Settings)
    values: dict[str, object] = {}
    for name, text in given.items():
        field = name.removeprefix(PREFIX).lower()
        if field not in hints:
            near = difflib.get_close_matches(field, hints, n=1)
            hint = (
                f"Did you mean {PREFIX}{near[0].upper()}?" if near else "Remove it, or see adapters/settings.py for the list."
            )
            raise BadSettingError(name, "there is no such setting", hint)
        values[field] = _parse(name, field, text, hints[field])
    return Settings(**values)  # type: ignore[arg-type]  # each value was converted to its field's type above


def _parse(name: str, field: str, text: str, kind: type) -> object:
    try:
        value: object = msgspec.convert(text.strip(), kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadSettingError(name, f"{text!r} is not a {kind.__name__}", "Give a plain number.") from error
    if field in _POSITIVE and not (isinstance(value, int | float) and 0 < value < _HUGE):
        raise BadSettingError(name, f"{text!r} is out of range", "Give a number above 0.")
    if field.endswith("_port") and not (isinstance(value, int) and 0 <= value <= _LAST_PORT):
        raise BadSettingError(name, f"{text!r} is not a port", "Give a number from 0 to 65535.")
    return value


def _read_local(local: Path | None) -> dict[str, str]:
    path = local or Path(os.environ.get(f"{PREFIX}HOME", ".")) / "var" / "local.env"
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
