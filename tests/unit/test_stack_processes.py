"""A server is recognised as ours, waited for, and stopped; what dies says why."""

import json
import os
import signal
from pathlib import Path

import pytest

from stack.errors import ServerDiedError
from stack.processes import Process, tail


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(name="server", pid_file=tmp_path / "server.pid", log=tmp_path / "server.log")


def spawn(process: Process, script: str) -> int:
    return process.spawn(["/bin/sh", "-c", script], env={"PATH": os.environ["PATH"]}, cwd=process.log.parent)


def test_a_started_process_runs_in_a_session_of_its_own_until_it_is_stopped(process: Process) -> None:
    pid = spawn(process, "exec sleep 60")
    assert process.pid() == pid
    assert os.getsid(pid) == pid != os.getsid(0)
    process.stop()
    assert process.pid() is None
    assert not process.pid_file.exists()


def test_a_pid_that_now_belongs_to_somebody_else_is_not_ours_and_is_left_alone(process: Process) -> None:
    process.pid_file.write_text(json.dumps({"pid": os.getpid(), "born": "another boot 1"}))
    assert process.pid() is None
    process.stop()
    assert not process.pid_file.exists()


@pytest.mark.parametrize("left_over", ["", "half a fi", '{"pid": 4194999, "born": null}', "[]", "17"])
def test_a_stale_or_broken_pid_file_counts_as_not_running(process: Process, left_over: str) -> None:
    process.pid_file.write_text(left_over)
    assert process.pid() is None


def test_a_process_that_ignores_the_request_is_ended_for_good(process: Process) -> None:
    spawn(process, "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    process.wait_ready(lambda: "deaf" in process.log.read_text(), timeout_s=5)
    process.stop(signal.SIGTERM, timeout_s=0.2)
    assert process.pid() is None


def test_a_server_that_dies_at_start_shows_the_end_of_its_log(process: Process) -> None:
    spawn(process, "echo 'could not bind: no such device'; exit 1")
    with pytest.raises(ServerDiedError) as died:
        process.wait_ready(lambda: False, timeout_s=5)
    assert "server ended while it started" in died.value.problem
    assert "could not bind: no such device" in died.value.problem
    assert str(process.log) in died.value.remedy


def test_a_server_that_is_never_ready_is_given_up_on(process: Process) -> None:
    spawn(process, "exec sleep 60")
    with pytest.raises(ServerDiedError, match="not ready after"):
        process.wait_ready(lambda: False, timeout_s=0.1)
    process.stop()


def test_one_that_is_half_started_is_waited_for_and_one_that_is_gone_is_not_up(process: Process) -> None:
    assert not process.is_up(lambda: True, timeout_s=5)
    spawn(process, "sleep 0.2; echo ready; exec sleep 60")
    assert process.is_up(lambda: "ready" in process.log.read_text(), timeout_s=5)
    with pytest.raises(ServerDiedError, match="runs, but was not ready"):
        process.is_up(lambda: False, timeout_s=0.1)
    process.stop()


def test_the_tail_of_a_log_is_its_end_also_where_there_is_none(tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    log.write_text("\n".join(f"line {number}" for number in range(1_000)))
    assert tail(log, 2) == "    line 998\n    line 999"
    assert "no log" in tail(tmp_path / "absent.log")
