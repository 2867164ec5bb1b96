"""The only place that knows how to run RabbitMQ natively: Debian's package, but a node of our own beside the machine's."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Final

from stack import tools
from stack.place import Place, write_private
from stack.ports import LOOPBACK, Ports, answers, require_free
from stack.secrets import rabbitmq_users

NAME: Final = "rabbitmq"
EPMD: Final = "epmd"  # Erlang's name service: one of our own, so that the machine's is not touched
_PATIENCE_S: Final = 180
_NODE: Final = "rushline@localhost"
_SCHEDULERS: Final = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"  # idle schedulers sleep instead of spinning
# What a tier could not hand back (its target was missing or full) is tried again after so many ms; by default, three minutes.
_HANDING_BACK: Final = "-rabbit dead_letter_worker_publisher_confirm_timeout 10000"


def start(place: Place, ports: Ports, secrets: dict[str, str]) -> None:
    """Start it where it does not run. On return it accepts connections, with its users and without any topology."""
    process = place.process(NAME)

    def ready() -> bool:
        return all(answers(port) for port in (ports.rabbitmq, ports.rabbitmq_ui, ports.rabbitmq_prometheus))

    if process.is_up(ready, timeout_s=_PATIENCE_S):
        return
    scripts = tools.rabbitmq_scripts()
    for port in (ports.rabbitmq, ports.rabbitmq_ui, ports.rabbitmq_dist, ports.rabbitmq_prometheus):
        require_free(port, "RabbitMQ")
    folder = place.folder(NAME)
    _configure(folder, ports, secrets)
    env = _environment(folder, ports)
    _start_epmd(place, ports, env)
    process.spawn([scripts / "rabbitmq-server"], env=env, cwd=folder)
    process.wait_ready(ready, timeout_s=_PATIENCE_S)


def stop(place: Place, *, at_once: bool = False) -> None:
    place.process(NAME).stop(signal.SIGKILL if at_once else signal.SIGTERM)
    place.process(EPMD).stop(signal.SIGKILL)  # it keeps nothing, and ignores gentler requests


def purge(place: Place) -> None:
    shutil.rmtree(place.folder(NAME), ignore_errors=True)


def _start_epmd(place: Place, ports: Ports, env: dict[str, str]) -> None:
    epmd = place.process(EPMD)
    if epmd.pid() is not None:
        return
    require_free(ports.rabbitmq_epmd, "Erlang's epmd")
    command = [tools.epmd(), "-address", LOOPBACK, "-port", str(ports.rabbitmq_epmd)]
    epmd.spawn(command, env=env, cwd=place.folder(NAME))
    epmd.wait_ready(lambda: answers(ports.rabbitmq_epmd), timeout_s=10)


def _configure(folder: Path, ports: Ports, secrets: dict[str, str]) -> None:
    for name in ("home", "mnesia", "log", "generated"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    write_private(folder / "home" / ".erlang.cookie", secrets["erlang_cookie"], 0o400)
    write_private(folder / "users.json", json.dumps(rabbitmq_users(secrets)))
    write_private(folder / "enabled_plugins", "[rabbitmq_management,rabbitmq_prometheus].\n")
    settings = {
        "listeners.tcp.1": f"{LOOPBACK}:{ports.rabbitmq}",
        "management.tcp.ip": LOOPBACK,
        "management.tcp.port": ports.rabbitmq_ui,
        "prometheus.tcp.ip": LOOPBACK,
        "prometheus.tcp.port": ports.rabbitmq_prometheus,
        "load_definitions": folder / "users.json",  # replaces the default user: there is no guest
        "log.console": "true",
        "log.console.level": "info",
        "log.console.use_colors": "off",
        "log.file": "false",
        "vm_memory_high_watermark.absolute": "1GB",
        "disk_free_limit.absolute": "200MB",
        "collect_statistics_interval": 2000,
    }
    write_private(folder / "rabbitmq.conf", "".join(f"{name} = {value}\n" for name, value in settings.items()))


def _environment(folder: Path, ports: Ports) -> dict[str, str]:
    """Everything the server's script would otherwise take from /etc and /var/lib."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "HOME": str(folder / "home"),  # holds this node's own cookie
        "ERL_EPMD_PORT": str(ports.rabbitmq_epmd),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the server, so that its pid is the server's
        "RABBITMQ_NODENAME": _NODE,
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_DIST_PORT": str(ports.rabbitmq_dist),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_SCHEDULERS} {_HANDING_BACK} -kernel inet_dist_use_interface {{127,0,0,1}}",
    }
