"""The event loop's edges, and the sockets of kept connections."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import SimpleQueue

import pytest

from egress.engine import Ended, Engine
from egress.sockets import OPEN_CONNECTIONS, OpenSockets


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection: our end and the other."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours = sockets.enter_context(socket.create_connection(listener.getsockname()))
        theirs, _ = listener.accept()
        yield ours, sockets.enter_context(theirs)


def test_a_wake_ends_a_turn_early_however_often_it_comes() -> None:
    engine = Engine()
    for _ in range(70_000):  # more than a pipe holds
        engine.wake()
    turns: SimpleQueue[list[Ended]] = SimpleQueue()
    threading.Thread(target=lambda: turns.put(engine.turn(until=time.monotonic() + 3600)), daemon=True).start()
    assert turns.get(timeout=60) == []
    engine.close()


def test_neither_end_of_the_pipe_that_wakes_can_hold_up_a_thread() -> None:
    engine = Engine()
    assert not os.get_blocking(engine._wake_reader)
    assert not os.get_blocking(engine._wake_writer)
    engine.close()


def test_a_closed_engine_has_closed_its_pipe() -> None:
    engine = Engine()
    engine.close()
    for descriptor in (engine._wake_reader, engine._wake_writer):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_a_closed_engine_may_be_woken_and_closed_again() -> None:
    engine = Engine()
    engine.close()
    engine.wake()
    engine.close()


def test_an_open_connection_is_usable_until_the_peer_closes_it(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    kept = OpenSockets()
    kept.note(ours.getsockname(), [ours.fileno()])
    assert kept.is_usable(ours.getsockname())
    theirs.sendall(b"a frame that nobody asked for")
    assert kept.is_usable(ours.getsockname())
    theirs.close()
    _until(lambda: not kept.is_usable(ours.getsockname()))


def test_a_reset_connection_is_not_fit(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    kept = OpenSockets()
    kept.note(ours.getsockname(), [ours.fileno()])
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    _until(lambda: not kept.is_usable(ours.getsockname()))


def test_the_descriptor_of_the_connection_is_picked_from_several(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    left, right = socket.socketpair()
    with left, right, socket.socket() as idle:
        kept = OpenSockets()
        kept.note(ours.getsockname(), [idle.fileno(), left.fileno(), ours.fileno()])
    theirs.close()
    _until(lambda: not kept.is_usable(ours.getsockname()))


def test_a_descriptor_that_was_reused_says_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _theirs = pair
    local = ours.getsockname()
    kept = OpenSockets()
    descriptor = os.dup(ours.fileno())
    kept.note(local, [descriptor])
    os.close(descriptor)
    assert kept.is_usable(local)
    assert kept.is_usable(("127.0.0.1", 1))


def test_the_end_of_a_socket_that_reuses_the_descriptor_is_not_the_connection_s(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, _theirs = pair
    kept = OpenSockets()
    descriptor = os.dup(ours.fileno())
    kept.note(ours.getsockname(), [descriptor])
    left, right = socket.socketpair()
    with left:
        os.dup2(left.fileno(), descriptor)
        right.close()
        assert kept.is_usable(ours.getsockname())
        os.close(descriptor)


def test_a_connection_that_nothing_is_known_about_is_nobodys(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _theirs = pair
    sockets = OpenSockets()
    assert not sockets.is_usable(ours.getsockname(), owner="destination-1")
    sockets.note(ours.getsockname(), [ours.fileno()], owner="destination-1")
    assert sockets.is_usable(ours.getsockname(), owner="destination-1")
    assert not sockets.is_usable(ours.getsockname(), owner="destination-2")


def test_silence_is_expected_only_where_something_is_known(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection may be pushed out by newer ones before its answer has come."""
    ours, theirs = pair
    kept, local = OpenSockets(), ours.getsockname()
    kept.expect_silence(local)
    assert len(kept) == 0
    theirs.sendall(b"an answer that nobody asked for")
    kept.note(local, [ours.fileno()])
    assert kept.is_usable(local)
    kept.expect_silence(local)
    _until(lambda: not kept.is_usable(local))


def test_only_so_many_connections_are_remembered() -> None:
    kept = OpenSockets()
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(OPEN_CONNECTIONS + 5)]
        for listener in bound:
            kept.note(listener.getsockname(), [listener.fileno()])
        assert len(kept) == OPEN_CONNECTIONS


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
