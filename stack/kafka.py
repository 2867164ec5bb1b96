"""The only place that knows how to run Kafka natively: its jars from Maven, one node that is broker and controller."""

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

from stack import tools
from stack.errors import ServerDiedError
from stack.place import Place
from stack.ports import LOOPBACK, Ports, answers, require_free
from stack.processes import run

NAME: Final = "kafka"
_PATIENCE_S: Final = 180
_STARTED: Final = b"Kafka Server started"
# One compiler, the quick one: on two shared cores the optimising one took more than it gave in an hour of ours.
_HEAP: Final = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)
_LOGGING: Final = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


def start(place: Place, ports: Ports, secrets: dict[str, str]) -> None:
    """Start it where it does not run. On return it serves, without any topic."""
    process = place.process(NAME)

    def ready() -> bool:
        return _STARTED in process.log.read_bytes() and answers(ports.kafka)

    if process.is_up(ready, timeout_s=_PATIENCE_S):
        return
    java = tools.java()
    jars = tools.kafka_jars(place.cache)
    require_free(ports.kafka, "Kafka")
    require_free(ports.kafka_controller, "Kafka's controller")
    folder = place.folder(NAME)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / "server.properties").write_text(_properties(folder, ports))
    base = [java, "-cp", f"{jars}/*", *_LOGGING]
    if not (folder / "log" / "meta.properties").is_file():
        _format(base, folder, secrets["kafka_cluster"])
    process.log.unlink(missing_ok=True)  # readiness is a line in it
    process.spawn([java, *_HEAP, *base[1:], "kafka.Kafka", folder / "server.properties"], env=tools.environment(), cwd=folder)
    process.wait_ready(ready, timeout_s=_PATIENCE_S)


def stop(place: Place, *, at_once: bool = False) -> None:
    place.process(NAME).stop(signal.SIGKILL if at_once else signal.SIGTERM)


def purge(place: Place) -> None:
    shutil.rmtree(place.folder(NAME), ignore_errors=True)


def _format(base: list[str], folder: Path, cluster: str) -> None:
    shutil.rmtree(folder / "log", ignore_errors=True)
    quick = [base[0], "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *base[1:], "kafka.tools.StorageTool"]
    try:
        run([*quick, "format", "-t", cluster, "-c", folder / "server.properties"], env=tools.environment(), cwd=folder)
    except subprocess.CalledProcessError as error:
        raise ServerDiedError(
            f"Kafka's storage could not be formatted:\n{error.stdout}",
            "See its words above; `rushline down --purge` begins again.",
        ) from error


def _properties(folder: Path, ports: Ports) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{ports.kafka_controller}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{ports.kafka},CONTROLLER://{LOOPBACK}:{ports.kafka_controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{ports.kafka}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": folder / "log",
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        # One node cannot replicate Kafka's own topics.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 16_777_216,
        "log.segment.bytes": 67_108_864,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
