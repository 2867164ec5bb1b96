"""A stack listens where it may, and says who is in the way."""

import os
import socket
from collections.abc import Iterator

import pytest

from stack.errors import PortTakenError
from stack.ports import Ports, answers, listener, require_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_default_ports_are_those_of_the_interface() -> None:
    ports = Ports()
    assert (ports.postgres, ports.rabbitmq, ports.rabbitmq_ui, ports.kafka) == (55432, 55672, 55673, 59092)


def test_a_taken_port_is_refused_with_the_process_that_holds_it(taken: int) -> None:
    with pytest.raises(PortTakenError) as refused:
        require_free(taken, "RabbitMQ")
    assert f"RabbitMQ cannot listen on 127.0.0.1:{taken}" in refused.value.problem
    assert f"process {os.getpid()}" in refused.value.problem
    assert f"Stop process {os.getpid()}" in refused.value.remedy


def test_free_ports_are_eight_different_ones_that_nobody_holds() -> None:
    ports = Ports.free()
    numbers = list(ports)
    assert len(set(numbers)) == len(numbers) == 8
    for port in numbers:
        require_free(port, "anything")
        assert not answers(port)


def test_who_listens_is_known_and_nobody_is_nobody(taken: int) -> None:
    assert listener(taken) == os.getpid()
    assert answers(taken)
    assert listener(Ports.free().kafka) is None
