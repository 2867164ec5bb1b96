"""The three servers start natively, beside any other stack, keep their data, and leave nothing behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from stack import local
from stack.errors import PortTakenError, StackBusyError, StackError
from stack.local import Addresses
from stack.place import Place
from stack.ports import Ports, answers

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(300)  # the first start on a machine fetches RabbitMQ and Kafka


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def addresses(home: Path) -> Iterator[Addresses]:
    try:
        yield local.start(home, Ports.free())
    finally:
        local.stop(home, purge=True)


def test_all_three_run_and_starting_again_does_nothing(home: Path, addresses: Addresses) -> None:
    before = local.status(home)
    assert all(server.running for server in before.values())
    assert local.start(home) == addresses
    assert local.status(home) == before


def test_another_launcher_sees_the_same_stack(home: Path, addresses: Addresses) -> None:
    command = [sys.executable, "-m", "console", "status", "--json"]
    environ = {**os.environ, "RUSHLINE_HOME": str(home)}
    said = json.loads(subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True).stdout)
    assert said["kafka"] == {"running": True, "pid": local.status(home)["kafka"].pid, "address": addresses.kafka}
    assert said["settings"] == addresses.settings


def test_what_holds_credentials_is_closed_to_others(home: Path, addresses: Addresses) -> None:
    for path in (Place.of(home).local_env, Place.of(home).secrets, home / "var" / "rabbitmq" / "users.json"):
        assert path.stat().st_mode & 0o077 == 0


async def test_each_role_signs_in_with_its_password_only_and_the_app_owns_nothing(addresses: Addresses) -> None:
    for name in ("RUSHLINE_POSTGRES_DSN", "RUSHLINE_MIGRATE_DSN", "RUSHLINE_AUDIT_DSN"):
        dsn = addresses.settings[name]
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW timezone") == "UTC"
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(dsn, password="wrong")
    connection = await asyncpg.connect(addresses.settings["RUSHLINE_POSTGRES_DSN"])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("CREATE TABLE mine (id int)")
    await connection.close()


def test_every_port_is_on_loopback_only(home: Path, addresses: Addresses) -> None:
    ports = local.last_ports(Place.of(home))
    assert ports is not None
    numbers = {f"{port:04X}" for port in ports}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    heard = {row[1] for row in rows if row[3] == "0A" and row[1].rpartition(":")[2] in numbers}
    assert heard
    assert all(address.startswith("0100007F:") for address in heard)


def test_a_running_stack_does_not_move_to_other_ports(home: Path, addresses: Addresses) -> None:
    with pytest.raises(StackError, match="runs on other ports already"):
        local.start(home, Ports.free())


def test_two_launchers_do_not_work_on_one_home_at_once(home: Path, addresses: Addresses) -> None:
    with local.locked(Place.of(home)), pytest.raises(StackBusyError):
        local.stop(home)


async def test_one_server_is_stopped_and_started_alone_and_data_survive(home: Path, addresses: Addresses) -> None:
    dsn = addresses.settings["RUSHLINE_MIGRATE_DSN"]
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    await connection.close()
    assert await asyncio.to_thread(local.stop, home, only=["postgres"]) == ["postgres"]
    assert {name: server.running for name, server in local.status(home).items()} == {
        "postgres": False,
        "rabbitmq": True,
        "kafka": True,
    }
    await asyncio.to_thread(local.start, home, only=["postgres"])
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT number FROM kept") == 7
    await connection.close()


def test_a_port_that_is_taken_is_named_and_what_had_been_started_is_stopped(
    tmp_path: Path, home: Path, addresses: Addresses
) -> None:
    others = local.last_ports(Place.of(home))
    assert others is not None
    mine = Ports.free()
    clash = Ports(**{name: getattr(mine, name) for name in Ports.__dataclass_fields__} | {"kafka": others.kafka})
    with pytest.raises(PortTakenError, match=f"process {local.status(home)['kafka'].pid} "):
        local.start(tmp_path, clash, only=["postgres", "kafka"])
    assert not any(server.running for server in local.status(tmp_path).values())
    assert not answers(clash.postgres)
    local.stop(tmp_path, purge=True)


def test_purging_leaves_nothing_running_and_nothing_behind(tmp_path: Path) -> None:
    local.start(tmp_path, Ports.free(), only=["postgres"])
    data = (tmp_path / "var" / "postgresql").resolve()
    assert data.is_dir()
    assert local.stop(tmp_path, purge=True) == ["postgres"]
    assert not data.exists()
    assert {path.name for path in (tmp_path / "var").iterdir()} <= {"stack.lock", "cache"}


def test_servers_that_were_killed_start_again_with_their_data(home: Path, addresses: Addresses) -> None:
    for server in local.status(home).values():
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
    give_up = time.monotonic() + 10
    while any(server.running for server in local.status(home).values()):
        assert time.monotonic() < give_up
    assert local.start(home) == addresses
    assert all(server.running for server in local.status(home).values())
