"""Packets: from any host to any address, all at the same time, and what became of each. TCP connections, questions by
UDP, which the far end answers, and echoes by ICMP, which its kernel does.

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
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import batched
from typing import Literal

from lab.kernel.apply import Lab, PacketRecord
from lab.model.attempts import Arrived, ConnectionAttempt, Died, PacketResult, Protocol, Unexplained
from lab.model.checkpoints import Checkpoint
from lab.model.outside import OTHER_ADDRESS, STRANGERS
from lab.plan.parts import FilterCause

FIRST_SOURCE_PORT = 32768  # as Linux chooses its own; above all ports that anyone listens on here
LAST_SOURCE_PORT = 65535
TIMEOUT_SECONDS = 5.0  # for the whole batch, and waited out only by what nothing explains
_QUIET_SECONDS = 0.02  # without events, before the records are read
_NUMBER_BYTES = 4
_IP_TRANSPARENT = 19  # <linux/in.h>
_REACHED = {errno.ECONNREFUSED, errno.ECONNRESET}
_ECHO, _ECHO_REPLY = 8, 0  # RFC 792
_ICMP = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number

_STRANGE = Died(checkpoint=Checkpoint.TRACKING, resource=STRANGERS, detail=OTHER_ADDRESS, direction="back")

type Tried = tuple[str, IPv4Address, int] | tuple[str, IPv4Address, int, Protocol]


class TooManyAttempts(ValueError):
    """One lab has no more source ports to tell attempts apart by."""


def attempts(connections: Iterable[Tried], *, first: int = FIRST_SOURCE_PORT) -> tuple[ConnectionAttempt, ...]:
    """(source host, destination, port), and a protocol unless it is TCP, with a source port for each.

    `first` goes on where an earlier call ended.
    """
    numbered = tuple(_attempt(connection, first + place) for place, connection in enumerate(connections))
    if numbered and numbered[-1].source_port > LAST_SOURCE_PORT:
        raise TooManyAttempts(
            f"{len(numbered)} attempts from port {first} on; one lab has room up to {LAST_SOURCE_PORT}"
        )
    return numbered


def _attempt(tried: Tried, source_port: int) -> ConnectionAttempt:
    protocol: Protocol = tried[3] if len(tried) == 4 else "tcp"
    return ConnectionAttempt(
        source=tried[0], destination=tried[1], port=tried[2], source_port=source_port, protocol=protocol
    )


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
    out, back = recorded_as(attempt)
    recorded = list(passes)
    return tuple(
        record.cause
        for ports in (out, back)
        for record in recorded
        if (record.source_port, record.destination_port) == ports
    )


def recorded_as(attempt: ConnectionAttempt) -> tuple[tuple[int, int], tuple[int, int]]:
    """What stands in a record where ports do, in a packet of the attempt and in the answer to it.

    An echo has its type and code there, and its checksum, which is the attempt's number on the way out (_echo).
    """
    if attempt.protocol != "icmp":
        return (attempt.source_port, attempt.port), (attempt.port, attempt.source_port)
    answer = ~_sum(~attempt.source_port & 0xFFFF, ~(_ECHO << 8) & 0xFFFF) & 0xFFFF
    return (_ECHO << 8, attempt.source_port), (_ECHO_REPLY << 8, answer)


def _sum(*words: int) -> int:
    """In ones' complement, as the internet's checksums are (RFC 1071)."""
    total = sum(words)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _echo(number: int) -> bytes:
    """A request whose checksum is its number: two bytes of content make up the difference."""
    content = _sum(~number & 0xFFFF, ~(_ECHO << 8) & 0xFFFF, ~number & 0xFFFF)
    return _ICMP.pack(_ECHO, 0, number, number, 0) + content.to_bytes(2)


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
class _Datagrams:
    """A socket on which questions come in, which are answered."""

    socket: socket.socket


@dataclass(slots=True)
class _Question:
    """The socket of a question, on which its answer comes back."""

    attempt: ConnectionAttempt
    socket: socket.socket


@dataclass(slots=True)
class _Echoes:
    """A socket that sees all echoes, and the answers to its own."""

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
    binds: dict[str, IPv4Address] = field(default_factory=dict)  # of those who share a namespace
    listened: set[tuple[str, int, str]] = field(default_factory=set)
    echoes: dict[str, socket.socket] = field(default_factory=dict)  # by host
    questions: dict[ConnectionAttempt, socket.socket] = field(default_factory=dict)
    numbers: dict[int, ConnectionAttempt] = field(default_factory=dict)  # of echoes
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
        hosts = self.lab.plan.hosts
        self.owners = {address: host.shares or host.name for host in hosts for address in host.addresses}
        self.binds = {host.name: host.addresses[0] for host in hosts if host.shares}
        shared = {host.addresses[0] for host in hosts if host.shares}
        wanted: dict[str, set[tuple[int, Protocol, str]]] = {}
        for attempt in self.tried:
            if attempt.destination in self.owners:  # an answer comes from the address that was asked
                at = str(attempt.destination) if attempt.destination in shared and attempt.protocol == "udp" else ""
                wanted.setdefault(self.owners[attempt.destination], set()).add((attempt.port, attempt.protocol, at))
        for name, services in sorted(wanted.items()):
            with self.lab.inside(name):
                for port, protocol, at in sorted(services):
                    self._listen_here(name, port, protocol, at)

    def _listen_here(self, name: str, port: int, protocol: Protocol, at: str) -> None:
        match protocol:
            case "tcp":
                self._listen_by_tcp(name, port)
            case "udp":
                self._listen_by_udp(name, port, at)
            case "icmp":
                self._see_echoes(name)

    def _listen_by_udp(self, name: str, port: int, at: str) -> None:
        listener = self._socket(socket.SOCK_DGRAM)
        try:
            listener.bind((at, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return  # a program of the lab's answers there, or not
        self.listened.add((name, port, "udp"))
        self.selector.register(listener, selectors.EVENT_READ, _Datagrams(listener))

    def _see_echoes(self, name: str) -> socket.socket:
        """Echoes of a host that shares its namespace come from its own address."""
        if name not in self.echoes:
            made = self._socket(socket.SOCK_RAW, socket.IPPROTO_ICMP)
            if name in self.binds:
                made.bind((str(self.binds[name]), 0))
            self.echoes[name] = made
            self.selector.register(made, selectors.EVENT_READ, _Echoes(made))
        return self.echoes[name]

    def _listen_by_tcp(self, name: str, port: int) -> None:
        listener = self._socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return
        listener.listen(1024)
        self.listened.add((name, port, "tcp"))
        self.selector.register(listener, selectors.EVENT_READ, _Listener(listener))

    def _call(self) -> None:
        by_source: dict[str, list[ConnectionAttempt]] = {}
        for attempt in self.tried:
            by_source.setdefault(attempt.source, []).append(attempt)
        for name in sorted(by_source):
            with self.lab.inside(name):
                for attempt in by_source[name]:
                    self._call_here(attempt)

    def _call_here(self, attempt: ConnectionAttempt) -> None:
        match attempt.protocol:
            case "tcp":
                self._connect(attempt)
            case "udp":
                self._ask(attempt)
            case "icmp":
                self.numbers[attempt.source_port] = attempt
                self.questions[attempt] = self._see_echoes(attempt.source)
                self._send(attempt)

    def _ask(self, attempt: ConnectionAttempt) -> None:
        asking = self._socket(socket.SOCK_DGRAM)
        asking.bind((str(self.binds.get(attempt.source, "")), attempt.source_port))
        self.questions[attempt] = asking
        self.selector.register(asking, selectors.EVENT_READ, _Question(attempt, asking))
        self._send(attempt)

    def _send(self, attempt: ConnectionAttempt) -> None:
        """A question or an echo, again where it had no answer: a full buffer loses them."""
        number = attempt.source_port
        content = _echo(number) if attempt.protocol == "icmp" else number.to_bytes(_NUMBER_BYTES)
        try:
            self.questions[attempt].sendto(content, (str(attempt.destination), attempt.port))
        except OSError as error:
            self.results[attempt] = _ended(error.errno or 0)

    def _connect(self, attempt: ConnectionAttempt) -> None:
        outgoing = self._socket()
        if attempt.spoofed_source is not None:
            outgoing.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)  # with which root may send from another address
        own = self.binds.get(attempt.source, "")
        outgoing.bind((str(attempt.spoofed_source or own), attempt.source_port))
        outcome = outgoing.connect_ex((str(attempt.destination), attempt.port))
        if outcome in {0, errno.EINPROGRESS}:
            self.selector.register(outgoing, selectors.EVENT_WRITE, _OutgoingConnection(attempt, outgoing))
        else:
            self.results[attempt] = _ended(outcome)

    def _socket(self, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        new_socket = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK, protocol)
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
            for attempt in self.questions.keys() - self.results.keys():
                with self.lab.inside(attempt.source):
                    self._send(attempt)
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
                self._handle(key.data)

    def _handle(self, ready: object) -> None:
        match ready:
            case _Listener():
                self._accept(ready)
            case _IncomingConnection():
                self._receive(ready)
            case _OutgoingConnection():
                self._connected(ready)
            case _Datagrams():
                self._answer(ready.socket)
            case _Question():
                self._answered(ready)
            case _Echoes():
                self._see(ready.socket)

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

    def _answer(self, listener: socket.socket) -> None:
        try:
            content, (peer, port) = listener.recvfrom(_NUMBER_BYTES)
        except OSError:
            return
        self.seen[int.from_bytes(content)] = IPv4Address(peer)
        listener.sendto(content, (peer, port))

    def _answered(self, question: _Question) -> None:
        self.selector.unregister(question.socket)
        try:
            _, (peer, _) = question.socket.recvfrom(_NUMBER_BYTES)
        except OSError as error:
            self.results[question.attempt] = _ended(error.errno or 0)
            return
        is_right = IPv4Address(peer) == question.attempt.destination
        self.results[question.attempt] = Arrived(seen_as=None) if is_right else _STRANGE

    def _see(self, echoes: socket.socket) -> None:
        """Behind a header of IP's, whose length is in its first byte."""
        try:
            packet, (peer, _) = echoes.recvfrom(200)
        except OSError:
            return
        kind, _, _, number, _ = _ICMP.unpack_from(packet, (packet[0] & 0xF) * 4)
        if kind == _ECHO:
            self.seen[number] = IPv4Address(peer)
        elif kind == _ECHO_REPLY and number in self.numbers:
            self.results[self.numbers[number]] = Arrived(seen_as=None)

    def _connected(self, outgoing: _OutgoingConnection) -> None:
        self.selector.unregister(outgoing.socket)
        outcome = outgoing.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        attempt = outgoing.attempt
        self.results[attempt] = _ended(outcome)
        if outcome == 0:
            outgoing.socket.send(attempt.source_port.to_bytes(_NUMBER_BYTES))
            far_end = self.owners.get(attempt.destination, ""), attempt.port, "tcp"
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
    by_ports = {(record.source_port, record.destination_port): record for record in drops}
    for attempt in unanswered:
        out, back = recorded_as(attempt)
        if out in by_ports:
            yield attempt, _died(by_ports[out], "out")
        elif back in by_ports:
            yield attempt, _died(by_ports[back], "back")


def _died(record: PacketRecord, direction: Literal["out", "back"]) -> Died:
    cause = record.cause
    return Died(checkpoint=cause.checkpoint, resource=cause.resource, detail=cause.detail, direction=direction)
