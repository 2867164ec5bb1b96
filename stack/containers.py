"""The only place that runs the three servers in containers: by `compose.yaml`, with passwords made for this home."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stack import secrets
from stack.errors import MissingToolError, ServerDiedError, StackError
from stack.local import Addresses, ServerStatus, addresses, agree_on_ports, last_ports, locked, write_local_env
from stack.place import SERVERS, Place, write_private
from stack.ports import Ports

FILE: Final = Path(__file__).resolve().parent.parent / "compose.yaml"
_ANSWER_S: Final = 10
_PULL_S: Final = 600
_START_S: Final = 180


class NoEngineError(MissingToolError):
    """No container engine answers."""


class NoImagesError(StackError):
    """An engine answers, but the images cannot be had."""


def unusable() -> StackError | None:
    """Why containers are out of the question here; None where they are not."""
    docker = shutil.which("docker")
    remedy = "Start one (`systemctl start docker`), or leave out `--how containers`."
    if docker is None:
        return NoEngineError("There is no container engine here.", remedy)
    for words in (["info"], ["compose", "version"]):
        try:
            done = subprocess.run([docker, *words], capture_output=True, check=False, timeout=_ANSWER_S)  # noqa: S603 - the engine's client
        except subprocess.TimeoutExpired:
            return NoEngineError("The container engine does not answer.", remedy)
        if done.returncode != 0:
            return NoEngineError(f"`docker {' '.join(words)}` fails.", remedy)
    return None


def used(place: Place) -> bool:
    """Whether this home's stack was started in containers."""
    return _env_file(place).is_file()


def start(place: Place, ports: Ports | None = None, *, only: Sequence[str] = SERVERS) -> Addresses:
    """Fetch what is missing, start, wait until healthy, and write `var/local.env`."""
    place.prepare()
    with locked(place):
        fresh = not used(place)
        ports = agree_on_ports(place, ports)
        env_file, settings = describe(place, ports)
        try:
            _compose(place, "pull", "--quiet", "--policy", "missing", *only, timeout_s=_PULL_S)
        except subprocess.SubprocessError as error:
            if fresh:
                env_file.unlink()
            raise NoImagesError("The images cannot be had.", "Check the network, or start with `--how native`.") from error
        try:
            _compose(place, "up", "--detach", "--wait", "--no-deps", *only, timeout_s=_START_S)
        except subprocess.SubprocessError as error:
            words = getattr(error, "stdout", "") or str(error)
            raise ServerDiedError(f"The containers did not become healthy:\n{words}", "See `docker compose logs`.") from error
        write_local_env(place, settings)
        return addresses(ports, settings)


def describe(place: Place, ports: Ports) -> tuple[Path, dict[str, str]]:
    """Write what `compose.yaml` asks for, and say where, and which settings will reach the servers."""
    known = secrets.keep(place.secrets)
    write_private(_env_file(place), "".join(f"{k}={v}\n" for k, v in _variables(place, known, ports).items()))
    return _env_file(place), secrets.settings(known, ports)


def stop(place: Place, *, only: Sequence[str] = SERVERS, purge: bool = False) -> list[str]:
    running = [name for name, server in status(place).items() if server.running]
    if purge:
        _compose(place, "down", "--volumes", timeout_s=_START_S)
        _env_file(place).unlink(missing_ok=True)
    else:
        _compose(place, "stop", *only, timeout_s=_START_S)
    return [name for name in running if name in only]


def status(place: Place) -> dict[str, ServerStatus]:
    known = addresses(last_ports(place) or Ports(), {})
    try:
        said = _compose(place, "ps", "--format", "json", timeout_s=_ANSWER_S)
    except (subprocess.SubprocessError, OSError):
        said = ""
    healthy = {each["Service"] for each in map(json.loads, said.splitlines()) if each.get("Health") == "healthy"}
    return {name: ServerStatus(running=name in healthy, pid=None, address=getattr(known, name)) for name in SERVERS}


def _env_file(place: Place) -> Path:
    return place.var / "compose.env"


def _compose(place: Place, *words: str, timeout_s: float) -> str:
    base = ["docker", "compose", "--env-file", str(_env_file(place)), "--file", str(FILE)]
    done = subprocess.run(  # noqa: S603 - the engine's client
        [*base, *words],
        check=True,
        timeout=timeout_s,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith("RUSHLINE_")},
    )
    return done.stdout


def _variables(place: Place, known: dict[str, str], ports: Ports) -> dict[str, str | int]:
    """What `compose.yaml` asks for; a project of its own for each home, so that two of them do not share volumes."""
    made = secrets.settings(known, ports)
    return {
        "COMPOSE_PROJECT_NAME": f"rushline-{hashlib.sha256(str(place.home).encode()).hexdigest()[:8]}",
        "POSTGRES_PASSWORD": known["postgres"],
        "OWNER_PASSWORD": known["rushline_owner"],
        "APP_PASSWORD": known["rushline_app"],
        "AUDIT_WRITER_PASSWORD": known["rushline_audit_writer"],
        "AUDIT_READER_PASSWORD": known["rushline_audit_reader"],
        "RABBITMQ_ADMIN_PASSWORD": known["rabbitmq_admin"],
        "RABBITMQ_APP_PASSWORD": known["rabbitmq_app"],
        "JWT_SECRET": made["RUSHLINE_JWT_SECRET"],
        "STRIPE_API_KEY": made["RUSHLINE_STRIPE_API_KEY"],
        "STRIPE_WEBHOOK_SECRET": made["RUSHLINE_STRIPE_WEBHOOK_SECRET"],
        "POSTGRES_PORT": ports.postgres,
        "RABBITMQ_PORT": ports.rabbitmq,
        "RABBITMQ_UI_PORT": ports.rabbitmq_ui,
        "KAFKA_PORT": ports.kafka,
    }
