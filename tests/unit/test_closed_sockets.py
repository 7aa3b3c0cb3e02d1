"""The fixture that closes the network to the tests of this folder."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest


def test_a_unit_test_that_reaches_for_the_network_fails() -> None:
    with socket.socket() as reaching:
        for reach in (reaching.connect, reaching.bind):
            with pytest.raises(AssertionError, match="unit tests use no sockets"):
                reach(("127.0.0.1", 0))
    with pytest.raises(AssertionError, match="unit tests use no sockets"):
        socket.create_connection(("localhost", 1))


def test_other_work_in_the_process_continues() -> None:
    def bound() -> int:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            port: int = other.getsockname()[1]
            return port

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(bound).result() > 0
