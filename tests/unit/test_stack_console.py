"""`rushline` lists its commands at once, and an error of ours is a sentence and a remedy, never a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from console.__main__ import VERBS, Verb, main

ROOT = Path(__file__).resolve().parents[2]
INTERFACE = (
    "up down status migrate topology gateway relay clock worker stream run simulate demo token outbox dlq audit doctor bench"
)


def test_the_commands_are_those_of_the_interface() -> None:
    assert {name for verbs in VERBS.values() for name in verbs} == set(INTERFACE.split())


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from console.__main__ import main;"
        "print(CliRunner().invoke(main, ['--help']).output);"
        "print([m for m in sys.modules if m.split('.')[0] in {'asyncpg', 'aio_pika', 'aiokafka', 'litestar', 'stack'}])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    *text, imported = done.stdout.strip().splitlines()
    assert imported == "[]"
    for verbs in VERBS.values():
        for name, verb in verbs.items():
            assert any(line.startswith(f"  {name} ") for line in text) == verb.exists()


def test_an_error_of_ours_is_a_sentence_and_its_remedy_with_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(main, ["status"], env={"RUSHLINE_HOME": "/proc/nowhere"})
    assert result.exit_code == 0
    result = CliRunner().invoke(main, ["topology", "diff"], env={"RUSHLINE_HTTP_PROT": "1"})
    assert result.exit_code == 2
    assert "Did you mean RUSHLINE_HTTP_PORT?" in result.output
    assert "Traceback" not in result.output


def test_a_broker_that_does_not_answer_is_named_with_the_setting_that_says_where_it_is() -> None:
    nobody = {"RUSHLINE_RABBITMQ_MANAGEMENT_URL": "http://x:y@127.0.0.1:9", "RUSHLINE_HOME": "/nowhere"}
    result = CliRunner().invoke(main, ["topology", "diff"], env=nobody)
    assert result.exit_code == 2
    assert "RabbitMQ's management interface does not answer" in result.output
    assert "RUSHLINE_RABBITMQ_MANAGEMENT_URL" in result.output


def test_a_command_whose_module_is_missing_is_not_offered_and_says_so_when_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VERBS["Trying it out"], "fly", Verb("console.no_such_module:fly", "Fly."))
    assert "fly" not in CliRunner().invoke(main, ["--help"]).output
    result = CliRunner().invoke(main, ["fly"])
    assert (result.exit_code, "not part of this version" in result.output) == (2, True)


def test_an_error_that_is_not_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(VERBS["Trying it out"], "broken", Verb("tests_broken:broken", ""))
    monkeypatch.setitem(sys.modules, "tests_broken", type(sys)("tests_broken"))
    sys.modules["tests_broken"].broken = broken  # type: ignore[attr-defined]
    assert isinstance(CliRunner().invoke(main, ["broken"]).exception, ZeroDivisionError)


def test_nothing_is_started_or_stopped_by_a_dry_run(tmp_path: Path) -> None:
    env = {"RUSHLINE_HOME": str(tmp_path)}
    up = CliRunner().invoke(main, ["up", "--dry-run"], env=env)
    down = CliRunner().invoke(main, ["down", "--purge", "--dry-run"], env=env)
    assert "Would start: postgres, rabbitmq, kafka" in up.output
    assert "Would stop: nothing; and remove their data" in down.output
    assert list(tmp_path.iterdir()) == []


def test_status_as_json_has_every_server_also_before_the_first_start(tmp_path: Path) -> None:
    said = json.loads(CliRunner().invoke(main, ["status", "--json"], env={"RUSHLINE_HOME": str(tmp_path)}).output)
    assert set(said) == {"postgres", "rabbitmq", "kafka", "settings"}
    assert said["kafka"] == {"running": False, "pid": None, "address": "127.0.0.1:59092"}
