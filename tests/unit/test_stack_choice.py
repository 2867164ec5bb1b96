"""Containers where an engine answers and has the images, otherwise native processes; a home stays with what it has."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stack import anywhere, containers, local, tools
from stack.anywhere import How
from stack.errors import MissingToolError, ServerDiedError
from stack.local import Addresses
from stack.place import Place

Docker = Callable[[str], Path]
NATIVE = Addresses(postgres="native", rabbitmq="native", rabbitmq_ui="native", kafka="native", settings={})


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """An engine that does what the given shell lines say, and notes how it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    calls = tmp_path / "calls"
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def engine(lines: str) -> Path:
        (folder / "docker").write_text(f'#!/bin/sh\necho "$*" >> {calls}\ncase "$*" in\n{lines}\nesac\n')
        (folder / "docker").chmod(0o755)
        return calls

    return engine


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(local, "start", lambda *_, **__: NATIVE)
    return tmp_path / "home"


def test_without_an_engine_that_answers_the_servers_are_native_and_nothing_is_said(home: Path, docker: Docker) -> None:
    docker("info) exit 1;;")
    said: list[str] = []
    assert anywhere.up(home, say=said.append) is NATIVE
    assert said == []
    with pytest.raises(containers.NoEngineError, match="`docker info` fails"):
        anywhere.up(home, how=How.CONTAINERS)


def test_an_engine_without_compose_is_no_engine(home: Path, docker: Docker) -> None:
    docker('info) ;;\n"compose version") exit 1;;')
    assert anywhere.up(home) is NATIVE


def test_where_the_images_cannot_be_had_the_servers_are_native_and_it_is_said(home: Path, docker: Docker) -> None:
    docker("*pull*) exit 1;;")
    said: list[str] = []
    assert anywhere.up(home, say=said.append) is NATIVE
    assert said == ["The images cannot be had. Starting native processes instead."]
    assert not containers.used(Place.of(home))


def test_an_engine_with_images_runs_the_three_servers_with_passwords_made_for_this_home(home: Path, docker: Docker) -> None:
    calls = docker("")
    started = anywhere.up(home)
    assert started.postgres == "127.0.0.1:55432"
    assert anywhere.settings(home) == started.settings
    assert "up --detach --wait --no-deps postgres rabbitmq kafka" in calls.read_text()
    env_file = Place.of(home).var / "compose.env"
    assert env_file.stat().st_mode & 0o077 == 0
    assert "COMPOSE_PROJECT_NAME=rushline-" in env_file.read_text()


def test_containers_are_asked_for_their_health_stopped_and_purged(home: Path, docker: Docker) -> None:
    healthy = json.dumps({"Service": "kafka", "Health": "healthy"})
    sick = json.dumps({"Service": "postgres", "Health": "unhealthy"})
    calls = docker(f"*ps*) echo '{healthy}'; echo '{sick}';;")
    anywhere.up(home)
    assert {name: server.running for name, server in anywhere.status(home).items()} == {
        "postgres": False,
        "rabbitmq": False,
        "kafka": True,
    }
    assert anywhere.down(home) == ["kafka"]
    assert "stop postgres rabbitmq kafka" in calls.read_text()
    anywhere.down(home, purge=True)
    assert "down --volumes" in calls.read_text()
    assert not containers.used(Place.of(home))


def test_containers_that_do_not_become_healthy_say_why(home: Path, docker: Docker) -> None:
    docker("*up*) echo 'kafka is unhealthy'; exit 1;;")
    with pytest.raises(ServerDiedError, match="kafka is unhealthy"):
        anywhere.up(home)


def test_a_native_stack_stays_native_though_an_engine_appears(home: Path, docker: Docker) -> None:
    calls = docker("")
    Place.of(home).folder("kafka").mkdir(parents=True)
    assert anywhere.up(home) is NATIVE
    assert not calls.exists()


def test_root_installs_rabbitmq_after_fetching_the_lists_of_a_fresh_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt, lists, installed = tmp_path / "apt-get", tmp_path / "lists", tmp_path / "installed"
    apt.write_text(
        f'#!/bin/sh\ncase "$*" in *update*) touch {lists};; *install*) test -e {lists} && touch {installed} || '
        "{ echo 'E: Unable to locate package'; exit 100; };; esac\n"
    )
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(tools, "_RABBITMQ", tmp_path / "nowhere")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    tools.rabbitmq_scripts()
    assert installed.exists()


def test_a_package_that_cannot_be_installed_says_what_apt_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'E: no network'\nexit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(tools, "_RABBITMQ", tmp_path / "nowhere")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(MissingToolError, match="E: no network"):
        tools.rabbitmq_scripts()
