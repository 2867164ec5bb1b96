"""The only place that looks for what the native servers need from the machine, and installs what can be installed."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from stack.errors import MissingToolError
from stack.processes import run

KAFKA: Final = "4.3.1"
OLDEST_JAVA: Final = 17
_RABBITMQ: Final = Path("/usr/lib/rabbitmq/bin")  # the real scripts: those in /usr/sbin change the user and the paths
_POM: Final = Path(__file__).with_name("kafka-pom.xml")


@cache
def java() -> str:
    """A Java that is new enough for Kafka."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None) or shutil.which("java")
    remedy = f"Run `apt-get install default-jre-headless`, or let JAVA_HOME name a Java of version {OLDEST_JAVA} or later."
    if found is None:
        raise MissingToolError("There is no Java here, and Kafka needs one.", remedy)
    said = re.search(r'version "(\d+)', run([found, "-version"], env=environment()))
    version = int(said.group(1)) if said else 0
    if version < OLDEST_JAVA:
        raise MissingToolError(f"{found} is Java {version or 'of an unknown version'}; Kafka needs {OLDEST_JAVA}.", remedy)
    return found


def environment() -> dict[str, str]:
    """What Java and Maven may see of ours: not our settings, and no options for some other Java."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RUSHLINE_", "KAFKA_", "CLASSPATH"))}


def kafka_jars(cache_folder: Path) -> Path:
    """Kafka's jars, downloaded by Maven on first use and shared by every stack after that."""
    jars = cache_folder / f"kafka-{KAFKA}"
    if jars.is_dir():
        return jars
    cache_folder.mkdir(parents=True, exist_ok=True)
    with (cache_folder / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two stacks starting at once download once
        if not jars.is_dir():
            _download(jars)
    return jars


def _download(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError("There is no Maven here, and Kafka's jars come by it.", "Run `apt-get install maven`.")
    draft = jars.with_name(f"{jars.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={draft}", f"-Dkafka.version={KAFKA}"]
    try:
        run([maven, "-q", "-B", "-ntp", "-f", _POM, *goal], env=environment())
    except subprocess.CalledProcessError as error:
        words = "\n".join(f"    {line}" for line in error.stdout.splitlines()[-6:])
        raise MissingToolError(
            f"Maven could not fetch Kafka {KAFKA}:\n{words}", "Check the network and Maven's settings, then try again."
        ) from error
    draft.rename(jars)


def rabbitmq_scripts() -> Path:
    """RabbitMQ's own scripts, from Debian's package, which is installed where that is possible."""
    if not (_RABBITMQ / "rabbitmq-server").exists():
        _install("rabbitmq-server")
    return _RABBITMQ


def epmd() -> str:
    found = shutil.which("epmd") or shutil.which("epmd", path="/usr/lib/erlang/bin")
    if found is None:
        raise MissingToolError("Erlang's epmd is not here.", "Run `apt-get install erlang-base`.")
    return found


def _install(package: str) -> None:
    apt, root = shutil.which("apt-get"), os.geteuid() == 0
    if apt is None or not root:
        raise MissingToolError(
            f"{package} is not installed, and {'only root can install it' if apt else 'there is no apt-get here'}.",
            f"Run `sudo apt-get install --no-install-recommends {package}`, or install a container engine.",
        )
    env = {**environment(), "DEBIAN_FRONTEND": "noninteractive"}
    install = [apt, "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", package]
    try:
        with _service_kept_off(package):
            try:
                run(install, env=env)
            except subprocess.CalledProcessError:  # the lists of a fresh machine are missing or old
                run([apt, "-o", "DPkg::Lock::Timeout=300", "update"], env=env)
                run(install, env=env)
    except subprocess.CalledProcessError as error:
        words = "\n".join(f"    {line}" for line in error.stdout.splitlines()[-6:])
        raise MissingToolError(
            f"apt-get could not install {package}:\n{words}", "Install it by hand, then try again."
        ) from error


@contextmanager
def _service_kept_off(service: str) -> Iterator[None]:
    """Debian starts a server as soon as it is installed. We want its files, not a second broker on this machine."""
    systemctl = shutil.which("systemctl") if Path("/run/systemd/system").is_dir() else None
    if systemctl is None:
        yield
        return
    run([systemctl, "mask", service])
    try:
        yield
    finally:
        run([systemctl, "unmask", service])
    run([systemctl, "disable", service])
