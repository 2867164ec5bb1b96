"""What a stack keeps is private, complete, and what the settings can read."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from adapters.settings import load_settings
from stack import postgres, secrets, tools
from stack.errors import DiskFullError, MissingToolError, StackError
from stack.place import Place, write_private
from stack.ports import Ports
from stack.processes import Owner

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - what shutil answers


def test_a_full_disk_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - 5_000_000, 5_000_000))
    with pytest.raises(DiskFullError, match="Only 5 MB are free"):
        Place.of(tmp_path).prepare()


def test_private_files_are_private_also_where_they_replace_open_ones(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


def test_secrets_are_made_once_and_those_that_are_new_are_added(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = secrets.keep(path)
    assert secrets.keep(path) == first
    path.write_text(json.dumps({name: value for name, value in first.items() if name != "jwt"}))
    again = secrets.keep(path)
    assert again["jwt"] != first["jwt"]
    assert {**again, "jwt": ""} == {**first, "jwt": ""}
    assert len(set(first.values())) == len(first)


def test_what_up_writes_is_what_the_settings_read(tmp_path: Path) -> None:
    known = secrets.keep(tmp_path / "secrets.json")
    local = tmp_path / "local.env"
    local.write_text("".join(f"{name}={value}\n" for name, value in secrets.settings(known, Ports()).items()))
    settings = load_settings({}, local)
    assert settings.migrate_dsn.startswith("postgresql://rushline_owner:")
    assert settings.audit_dsn.startswith("postgresql://rushline_audit_writer:")
    assert len(settings.jwt_secret) >= 48
    assert settings.stripe_webhook_secret.startswith("whsec_")


def test_the_processes_may_configure_nothing_on_rabbitmq(tmp_path: Path) -> None:
    users = secrets.rabbitmq_users(secrets.keep(tmp_path / "secrets.json"))
    permissions = {each["user"]: each for each in users["permissions"]}  # type: ignore[attr-defined]
    assert permissions["rushline_app"]["configure"] == "^$"
    assert "password_hash" in json.dumps(users)
    assert '"password"' not in json.dumps(users)


def test_no_java_and_an_old_java_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools.java.cache_clear()
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="There is no Java here"):
        tools.java()
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    with pytest.raises(MissingToolError, match="is Java 11; Kafka needs 17"):
        tools.java()
    tools.java.cache_clear()


def test_no_maven_is_only_missed_where_the_jars_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingToolError, match="There is no Maven here"):
        tools.kafka_jars(tmp_path)
    (tmp_path / f"kafka-{tools.KAFKA}").mkdir()
    assert tools.kafka_jars(tmp_path).is_dir()


def test_only_root_can_install_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_RABBITMQ", Path("/nowhere"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingToolError, match="rabbitmq-server is not installed") as refused:
        tools.rabbitmq_scripts()
    assert "sudo apt-get install" in refused.value.remedy


def test_a_home_closed_to_postgresqls_user_is_seen_as_such(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "inside").mkdir(parents=True)
    closed.chmod(0o700)
    nobody = Owner(65_534, 65_534)
    assert not postgres.reachable(closed / "inside", nobody)
    assert postgres.reachable(closed / "inside", Owner())
    assert postgres.reachable(Path("/usr/bin"), nobody)


def test_a_home_that_may_not_be_written_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("not a folder")
    with pytest.raises(StackError, match="cannot be written") as refused:
        Place.of(tmp_path).prepare()
    assert "RUSHLINE_HOME" in refused.value.remedy
