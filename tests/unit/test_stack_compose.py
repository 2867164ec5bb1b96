"""compose.yaml runs everything, and each service says how it is judged, restarted, limited and waited for."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.settings import load_settings
from stack import containers, secrets
from stack.place import Place
from stack.ports import Ports

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS = {"postgres", "rabbitmq", "kafka"}
ONCE = {"migrate", "topology"}
OURS = {"gateway", "relay", "clock", "worker", "stream"}


def test_it_runs_the_three_servers_two_preparations_and_five_processes() -> None:
    assert set(SERVICES) == SERVERS | ONCE | OURS


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_has_a_restart_policy_and_a_memory_limit(name: str) -> None:
    assert SERVICES[name]["restart"] in {"unless-stopped", "on-failure:3"}
    assert re.fullmatch(r"\d+[mg]", SERVICES[name]["mem_limit"])


@pytest.mark.parametrize("name", sorted(SERVERS | OURS))
def test_every_service_that_stays_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@pytest.mark.parametrize("name", sorted(ONCE | OURS))
def test_ours_wait_for_healthy_servers_and_finished_preparations(name: str) -> None:
    for other, how in SERVICES[name]["depends_on"].items():
        assert how["condition"] == ("service_healthy" if other in SERVERS else "service_completed_successfully")
    assert name in ONCE or "migrate" in SERVICES[name]["depends_on"]


def test_the_gateway_starts_and_takes_orders_while_a_broker_is_down() -> None:
    assert set(SERVICES["gateway"]["depends_on"]) == {"postgres", "migrate"}


@pytest.mark.parametrize("name", sorted(ONCE | OURS))
def test_ours_cannot_write_to_their_root_file_system_or_gain_rights(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_port_is_on_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_the_servers_images_are_pinned(name: str) -> None:
    assert re.search(r":\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", sorted(ONCE | OURS))
def test_each_process_is_given_settings_that_exist(name: str) -> None:
    given = {key: value for key, value in SERVICES[name]["environment"].items() if not value.startswith("${")}
    load_settings(given)
    names = dict.fromkeys(SERVICES[name]["environment"], "1")
    load_settings(names)


def test_every_password_is_asked_for_and_every_one_asked_for_is_made_by_up(tmp_path: Path) -> None:
    text = (ROOT / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?\}", text))
    known = secrets.keep(tmp_path / "secrets.json")
    assert asked <= set(containers._variables(Place.of(tmp_path), known, Ports()))
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set()
    assert set(re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|KEY))\b", text)) <= asked


def test_rabbitmqs_users_are_among_the_definitions_because_those_replace_the_default_user(tmp_path: Path) -> None:
    content = re.sub(r"\$\{\w+:\?\}", "x", COMPOSE["configs"]["rabbitmq-users"]["content"]).replace("$$", "$")
    users = json.loads(content)
    native = secrets.rabbitmq_users(secrets.keep(tmp_path / "secrets.json"))
    assert users["permissions"] == native["permissions"]
    assert users["vhosts"] == native["vhosts"]
    sources = {each["source"]: each["target"] for each in SERVICES["rabbitmq"]["configs"]}
    assert f"load_definitions = {Path(sources['rabbitmq-users']).parent}" in COMPOSE["configs"]["rabbitmq-conf"]["content"]
    assert Path(sources["rabbitmq-users"]).parent == Path(sources["rabbitmq-topology"]).parent
    assert sources["rabbitmq-users"] < sources["rabbitmq-topology"]  # the vhost first


def test_the_topology_that_is_loaded_is_there() -> None:
    assert (ROOT / COMPOSE["configs"]["rabbitmq-topology"]["file"]).is_file()


def test_the_image_copies_only_what_exists_and_the_ignore_file_lets_it() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    dockerfile = (ROOT / "Dockerfile").read_text()
    sources = {line.split()[1] for line in dockerfile.splitlines() if line.startswith("COPY ") and "--from" not in line}
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignore
    assert "USER 10001" in dockerfile
