"""The demonstration as its users run it, in small: a process of its own, on servers of its own, judged by its report.

Its targets are measured and reported, and decide nothing here: a timing never decides a test.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import REPOSITORY

PROMISES = 15


def _evening(home: Path, *options: str) -> dict[str, Any]:
    home.chmod(0o755)
    (home / "var").mkdir()
    (home / "var" / "cache").symlink_to(REPOSITORY / "var" / "cache")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUSHLINE_")}
    command = [sys.executable, "-m", "console", "demo", "--free-ports", *options]
    ended = subprocess.run(
        command, env={**environ, "RUSHLINE_HOME": str(home)}, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    report = home / "var" / "demo-report.json"
    assert report.is_file(), ended.stdout[-2_000:] + ended.stderr[-4_000:]
    told: dict[str, Any] = json.loads(report.read_text())
    assert ended.returncode == (0 if told["passed"] else 1)
    return told


def _broken(report: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in report["invariants"].items() if not each["ok"]}


@pytest.fixture
def home(tmp_path: Path) -> Any:
    yield tmp_path
    subprocess.run(
        [sys.executable, "-m", "console", "down", "--purge"],
        env={**os.environ, "RUSHLINE_HOME": str(tmp_path)}, cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip


@pytest.mark.timeout(400)
def test_every_promise_holds_in_an_evening_with_the_usual_faults(home: Path) -> None:
    report = _evening(home, "--rate", "4", "--peak", "8", "--duration", "30")
    assert _broken(report) == {}
    assert len(report["invariants"]) == PROMISES
    assert report["orders"]["delivered"] > 0
    assert {"payment_confirmed", "restaurant_notified", "driver_assigned", "api"} == report["slo"].keys()
    assert {"provider_outage", "fraud_spell", "poison", "expired_key", "kafka_down"} <= report["faults"].keys()
    assert report["invariants"]["operators_came_through"]["count"] == 3  # an outage, poison, a replay
    commands, facts = report["messages"]["commands"], report["messages"]["facts"]
    assert {"payment.charge", "restaurant.notify", "driver.dispatch", "notification.sms"} <= commands.keys()
    for kind, where in commands.items():
        assert where.pop("entered") == sum(where.values()) > 0, kind
    assert facts["orders.events"] == facts["audit.events"] == report["orders"]["facts"]


@pytest.mark.timeout(600)
def test_killing_each_process_and_stopping_each_broker_for_20_seconds_breaks_no_promise(home: Path) -> None:
    """Two relays and three workers of each kind, every one of them killed once while orders come."""
    report = _evening(
        home, "--script", "storm", "--workers", "3", "--rate", "3", "--peak", "5", "--duration", "120",
        "--time-scale", "30", "--patience", "150",
    )  # fmt: skip
    assert _broken(report) == {}
    killed = [name for name in report["faults"] if name.startswith("sigkill")]
    assert len(killed) == len(report["about"]["restarts"]) >= 10
    assert {"rabbitmq_down", "kafka_down"} <= report["faults"].keys()
