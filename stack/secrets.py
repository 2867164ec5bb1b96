"""The only place where passwords and keys of a local stack are made: at random, once, in a file only its owner reads."""

import base64
import hashlib
import json
import secrets
import uuid
from pathlib import Path
from typing import Final

from stack.place import write_private
from stack.ports import LOOPBACK, Ports

_PASSWORDS: Final = (
    "postgres",
    "rushline_owner",
    "rushline_app",
    "rushline_audit_writer",
    "rushline_audit_reader",
    "rabbitmq_admin",
    "rabbitmq_app",
    "erlang_cookie",
    "jwt",
    "stripe_api_key",
    "stripe_webhook",
)


def keep(path: Path) -> dict[str, str]:
    """The secrets of this stack; those that do not exist yet are made."""
    known: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    made = {name: secrets.token_hex(24) for name in _PASSWORDS if name not in known}
    if "kafka_cluster" not in known:
        made["kafka_cluster"] = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    if made:
        known |= made
        write_private(path, json.dumps(known, indent=2) + "\n")
    return known


def settings(known: dict[str, str], ports: Ports) -> dict[str, str]:
    """What `var/local.env` holds: how our processes reach this stack, and as whom."""

    def dsn(role: str) -> str:
        return f"postgresql://{role}:{known[role]}@{LOOPBACK}:{ports.postgres}/rushline"

    webhook = base64.b64encode(bytes.fromhex(known["stripe_webhook"])).decode().rstrip("=")
    return {
        "RUSHLINE_POSTGRES_DSN": dsn("rushline_app"),
        "RUSHLINE_MIGRATE_DSN": dsn("rushline_owner"),
        "RUSHLINE_AUDIT_DSN": dsn("rushline_audit_writer"),
        "RUSHLINE_AUDIT_READER_DSN": dsn("rushline_audit_reader"),
        "RUSHLINE_RABBITMQ_URL": f"amqp://rushline_app:{known['rabbitmq_app']}@{LOOPBACK}:{ports.rabbitmq}/",
        "RUSHLINE_RABBITMQ_MANAGEMENT_URL": f"http://rushline:{known['rabbitmq_admin']}@{LOOPBACK}:{ports.rabbitmq_ui}",
        "RUSHLINE_KAFKA_BOOTSTRAP": f"{LOOPBACK}:{ports.kafka}",
        "RUSHLINE_JWT_SECRET": known["jwt"],
        "RUSHLINE_STRIPE_API_KEY": f"sk_test_{known['stripe_api_key']}",
        "RUSHLINE_STRIPE_WEBHOOK_SECRET": f"whsec_{webhook}",
    }


def rabbitmq_users(known: dict[str, str]) -> dict[str, object]:
    """Definitions that RabbitMQ loads at each boot: its users, as hashes, and what each may do.

    The processes' user can configure nothing: the topology is applied by `rushline topology apply`, never by a consumer.
    """
    writable = r"^(commands|orders\.retry\..*|orders\.dlq.*|amq\.default)$"
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {"name": "rushline", "tags": "administrator", **_hashed(known["rabbitmq_admin"])},
            {"name": "rushline_app", "tags": "", **_hashed(known["rabbitmq_app"])},
        ],
        "permissions": [
            {"user": "rushline", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
            {"user": "rushline_app", "vhost": "/", "configure": "^$", "write": writable, "read": ".*"},
        ],
    }


def _hashed(password: str) -> dict[str, str]:
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
    }
