"""Packets: TCP connections from any host to any address, all at the same time, and what became of each.

Sockets are made inside of the namespaces by one process, which then waits for all of them at once. A connection that
arrives says its number, and the listener remembers the address that it came from; a reset counts as arrived. One that
does not arrive is looked up in the records of refused packets, by its ports, which no other attempt of the lab has:
the evidence decides, and the clock only where there is none.
"""

import errno
import os
import resource
import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import batched
from typing import Literal

from lab.kernel.apply import Lab, PacketRecord
from lab.model.attempts import Arrived, ConnectionAttempt, Died, PacketResult, Unexplained
from lab.plan.parts import FilterCause

FIRST_SOURCE_PORT = 32768  # as Linux chooses its own; above all ports that anyone listens on here
LAST_SOURCE_PORT = 65535
TIMEOUT_SECONDS = 5.0  # for the whole batch, and waited out only by what nothing explains
_QUIET_SECONDS = 0.02  # without events, before the records are read
_NUMBER_BYTES = 4
_IP_TRANSPARENT = 19  # <linux/in.h>
_REACHED = {errno.ECONNREFUSED, errno.ECONNRESET}


class TooManyAttempts(ValueError):
    """One lab has no more source ports to tell attempts apart by."""


def attempts(
    connections: Iterable[tuple[str, IPv4Address, int]], *, first: int = FIRST_SOURCE_PORT
) -> tuple[ConnectionAttempt, ...]:
    """(source host, destination, port) with a source port for each. `first` goes on where an earlier call ended."""
    numbered = tuple(
        ConnectionAttempt(source=source, destination=destination, port=port, source_port=first + place)
        for place, (source, destination, port) in enumerate(connections)
    )
    if numbered and numbered[-1].source_port > LAST_SOURCE_PORT:
        raise TooManyAttempts(
            f"{len(numbered)} attempts from port {first} on; one lab has room up to {LAST_SOURCE_PORT}"
        )
    return numbered


def probe(
    lab: Lab, tried: Sequence[ConnectionAttempt], *, timeout_seconds: float = TIMEOUT_SECONDS
) -> dict[ConnectionAttempt, PacketResult]:
    """Make all attempts and say what became of each. Takes as many batches as file descriptors ask for."""
    results: dict[ConnectionAttempt, PacketResult] = {}
    for batch in batched(tried, _batch_size(), strict=False):
        with _ProbeBatch(lab, batch) as running:
            results |= running.finish(timeout_seconds)
    return results


def let_by(attempt: ConnectionAttempt, passes: Iterable[PacketRecord]) -> tuple[FilterCause, ...]:
    """The rules and entries that let the packets of an attempt pass: first its own, then those of the answer."""
    out, back = (attempt.source_port, attempt.port), (attempt.port, attempt.source_port)
    recorded = list(passes)
    return tuple(
        record.cause
        for ports in (out, back)
        for record in recorded
        if (record.source_port, record.destination_port) == ports
    )


def _batch_size() -> int:
    """An attempt takes two descriptors, one at each end; listeners and the lab's own take some hundreds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(50, min(4000, (hard - 600) // 2))


@dataclass(slots=True)
class _Listener:
    socket: socket.socket


@dataclass(slots=True)
class _IncomingConnection:
    """The far end of an attempt, before it has sent its number."""

    socket: socket.socket
    peer: IPv4Address
    received: bytes = b""


@dataclass(slots=True)
class _OutgoingConnection:
    attempt: ConnectionAttempt
    socket: socket.socket


@dataclass(slots=True)
class _ProbeBatch:
    lab: Lab
    tried: Sequence[ConnectionAttempt]
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    stack: ExitStack = field(default_factory=ExitStack)
    results: dict[ConnectionAttempt, PacketResult] = field(default_factory=dict)
    seen: dict[int, IPv4Address] = field(default_factory=dict)
    owners: dict[IPv4Address, str] = field(default_factory=dict)
    listened: set[tuple[str, int]] = field(default_factory=set)
    unidentified: set[int] = field(default_factory=set)  # source ports of those who connected to a listener of ours

    def __enter__(self) -> "_ProbeBatch":
        self.stack.enter_context(self.selector)
        self._listen()
        self._call()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    # -- both ends

    def _listen(self) -> None:
        """Listen wherever an attempt may arrive. Where a program of the lab's has the port already, it answers."""
        self.owners = {address: host.name for host in self.lab.plan.hosts for address in host.addresses}
        wanted = {
            (self.owners[attempt.destination], attempt.port)
            for attempt in self.tried
            if attempt.destination in self.owners
        }
        for name in sorted({name for name, _ in wanted}):
            with self.lab.inside(name):
                for port in sorted(port for owner, port in wanted if owner == name):
                    self._listen_here(name, port)

    def _listen_here(self, name: str, port: int) -> None:
        listener = self._socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return
        listener.listen(1024)
        self.listened.add((name, port))
        self.selector.register(listener, selectors.EVENT_READ, _Listener(listener))

    def _call(self) -> None:
        for name in sorted({attempt.source for attempt in self.tried}):
            with self.lab.inside(name):
                for attempt in self.tried:
                    if attempt.source == name:
                        self._call_here(attempt)

    def _call_here(self, attempt: ConnectionAttempt) -> None:
        outgoing = self._socket()
        if attempt.spoofed_source is not None:
            outgoing.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)  # with which root may send from another address
        outgoing.bind((str(attempt.spoofed_source or ""), attempt.source_port))
        outcome = outgoing.connect_ex((str(attempt.destination), attempt.port))
        if outcome in {0, errno.EINPROGRESS}:
            self.selector.register(outgoing, selectors.EVENT_WRITE, _OutgoingConnection(attempt, outgoing))
        else:
            self.results[attempt] = _ended(outcome)

    def _socket(self) -> socket.socket:
        new_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.stack.callback(new_socket.close)
        return new_socket

    # -- what happens then

    def finish(self, timeout_seconds: float) -> dict[ConnectionAttempt, PacketResult]:
        deadline = time.monotonic() + timeout_seconds
        self._handle_events()
        while self._pending():
            if unanswered := [attempt for attempt in self.tried if attempt not in self.results]:
                self.results |= _explained(unanswered, self.lab.drops())
            if not self._pending() or time.monotonic() > deadline:
                break
            self._handle_events()
        for attempt in self._pending():
            self.results[attempt] = Unexplained(reason=f"no answer and no record within {timeout_seconds:g} s")
        return {attempt: self._with_peer(attempt) for attempt in self.tried}

    def _pending(self) -> list[ConnectionAttempt]:
        """Those without a result, and those whose number is still on its way."""
        return [
            attempt for attempt in self.tried if attempt not in self.results or attempt.source_port in self.unidentified
        ]

    def _handle_events(self) -> None:
        """Serve both ends until there have been no events for a moment."""
        while events := self.selector.select(_QUIET_SECONDS):
            for key, _ in events:
                match key.data:
                    case _Listener():
                        self._accept(key.data)
                    case _IncomingConnection():
                        self._receive(key.data)
                    case _OutgoingConnection():
                        self._connected(key.data)

    def _accept(self, listener: _Listener) -> None:
        try:
            incoming, (peer, _) = listener.socket.accept()
        except OSError:
            return  # it went away in between
        self.stack.callback(incoming.close)
        incoming.setblocking(False)
        self.selector.register(incoming, selectors.EVENT_READ, _IncomingConnection(incoming, IPv4Address(peer)))

    def _receive(self, incoming: _IncomingConnection) -> None:
        try:
            chunk = incoming.socket.recv(_NUMBER_BYTES - len(incoming.received))
        except OSError:
            chunk = b""
        incoming.received += chunk
        if len(incoming.received) == _NUMBER_BYTES:
            self.seen[int.from_bytes(incoming.received)] = incoming.peer
            self.unidentified.discard(int.from_bytes(incoming.received))
        if not chunk or len(incoming.received) == _NUMBER_BYTES:
            self.selector.unregister(incoming.socket)
            incoming.socket.close()

    def _connected(self, outgoing: _OutgoingConnection) -> None:
        self.selector.unregister(outgoing.socket)
        outcome = outgoing.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        attempt = outgoing.attempt
        self.results[attempt] = _ended(outcome)
        if outcome == 0:
            outgoing.socket.send(attempt.source_port.to_bytes(_NUMBER_BYTES))
            far_end = self.owners.get(attempt.destination, ""), attempt.port
            if far_end in self.listened and attempt.source_port not in self.seen:
                self.unidentified.add(attempt.source_port)

    def _with_peer(self, attempt: ConnectionAttempt) -> PacketResult:
        result = self.results[attempt]
        return Arrived(seen_as=self.seen.get(attempt.source_port)) if isinstance(result, Arrived) else result


def _ended(outcome: int) -> PacketResult:
    if outcome == 0 or outcome in _REACHED:
        return Arrived(seen_as=None)
    return Unexplained(reason=os.strerror(outcome))


def _explained(
    unanswered: Sequence[ConnectionAttempt], drops: Iterable[PacketRecord]
) -> Iterator[tuple[ConnectionAttempt, PacketResult]]:
    """The attempts without a result whose packets are among the refused ones."""
    out: dict[tuple[int, int], PacketRecord] = {}
    back: dict[tuple[int, int], PacketRecord] = {}
    for record in drops:
        out[record.source_port, record.destination_port] = record
        back[record.destination_port, record.source_port] = record
    for attempt in unanswered:
        ports = (attempt.source_port, attempt.port)
        if ports in out:
            yield attempt, _died(out[ports], "out")
        elif ports in back:
            yield attempt, _died(back[ports], "back")


def _died(record: PacketRecord, direction: Literal["out", "back"]) -> Died:
    cause = record.cause
    return Died(checkpoint=cause.checkpoint, resource=cause.resource, detail=cause.detail, direction=direction)
