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
from lab.model.attempts import Arrived, ConnectionAttempt, Died, ProbeResult, Unexplained
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
    pairs: Iterable[tuple[str, IPv4Address, int]], *, first: int = FIRST_SOURCE_PORT
) -> tuple[ConnectionAttempt, ...]:
    """(source host, destination, port) with a source port for each. `first` goes on where an earlier call ended."""
    found = tuple(
        ConnectionAttempt(source=source, destination=destination, port=port, source_port=first + place)
        for place, (source, destination, port) in enumerate(pairs)
    )
    if found and found[-1].source_port > LAST_SOURCE_PORT:
        raise TooManyAttempts(f"{len(found)} attempts from port {first} on; one lab has room up to {LAST_SOURCE_PORT}")
    return found


def probe(
    lab: Lab, tried: Sequence[ConnectionAttempt], *, timeout_seconds: float = TIMEOUT_SECONDS
) -> dict[ConnectionAttempt, ProbeResult]:
    """Make all attempts and say what became of each. Takes as many batches as file descriptors ask for."""
    verdicts: dict[ConnectionAttempt, ProbeResult] = {}
    for batch in batched(tried, _batch_size(), strict=False):
        with _ProbeBatch(lab, batch) as running:
            verdicts |= running.finish(timeout_seconds)
    return verdicts


def let_by(one: ConnectionAttempt, passes: Iterable[PacketRecord]) -> tuple[FilterCause, ...]:
    """The rules and entries that let the packets of an attempt pass: first its own, then those of the answer."""
    out, back = (one.source_port, one.port), (one.port, one.source_port)
    found = list(passes)
    return tuple(
        record.cause
        for ports in (out, back)
        for record in found
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
class _Guest:
    """The far end of an attempt, before it has said its number."""

    socket: socket.socket
    peer: IPv4Address
    heard: bytes = b""


@dataclass(slots=True)
class _Caller:
    attempt: ConnectionAttempt
    socket: socket.socket


@dataclass(slots=True)
class _ProbeBatch:
    lab: Lab
    tried: Sequence[ConnectionAttempt]
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    stack: ExitStack = field(default_factory=ExitStack)
    verdicts: dict[ConnectionAttempt, ProbeResult] = field(default_factory=dict)
    seen: dict[int, IPv4Address] = field(default_factory=dict)
    owners: dict[IPv4Address, str] = field(default_factory=dict)
    listened: set[tuple[str, int]] = field(default_factory=set)
    speaking: set[int] = field(default_factory=set)  # source ports of those who connected to a listener of ours

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
                for one in self.tried:
                    if one.source == name:
                        self._call_here(one)

    def _call_here(self, one: ConnectionAttempt) -> None:
        caller = self._socket()
        if one.claims is not None:
            caller.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)  # the kernel lets root send as someone else with this
        caller.bind((str(one.claims or ""), one.source_port))
        outcome = caller.connect_ex((str(one.destination), one.port))
        if outcome in {0, errno.EINPROGRESS}:
            self.selector.register(caller, selectors.EVENT_WRITE, _Caller(one, caller))
        else:
            self.verdicts[one] = _ended(outcome)

    def _socket(self) -> socket.socket:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.stack.callback(one.close)
        return one

    # -- what happens then

    def finish(self, timeout_seconds: float) -> dict[ConnectionAttempt, ProbeResult]:
        deadline = time.monotonic() + timeout_seconds
        self._follow()
        while self._unclear():
            if open_ones := [attempt for attempt in self.tried if attempt not in self.verdicts]:
                self.verdicts |= _explained(open_ones, self.lab.drops())
            if not self._unclear() or time.monotonic() > deadline:
                break
            self._follow()
        for one in self._unclear():
            self.verdicts[one] = Unexplained(words=f"no answer and no record within {timeout_seconds:g} s")
        return {attempt: self._with_peer(attempt) for attempt in self.tried}

    def _unclear(self) -> list[ConnectionAttempt]:
        """Those without a verdict, and those whose number is still on its way."""
        return [
            attempt for attempt in self.tried if attempt not in self.verdicts or attempt.source_port in self.speaking
        ]

    def _follow(self) -> None:
        """Serve both ends until there have been no events for a moment."""
        while events := self.selector.select(_QUIET_SECONDS):
            for key, _ in events:
                match key.data:
                    case _Listener():
                        self._accept(key.data)
                    case _Guest():
                        self._hear(key.data)
                    case _Caller():
                        self._connected(key.data)

    def _accept(self, listener: _Listener) -> None:
        try:
            guest, (peer, _) = listener.socket.accept()
        except OSError:
            return  # it went away in between
        self.stack.callback(guest.close)
        guest.setblocking(False)
        self.selector.register(guest, selectors.EVENT_READ, _Guest(guest, IPv4Address(peer)))

    def _hear(self, guest: _Guest) -> None:
        try:
            heard = guest.socket.recv(_NUMBER_BYTES - len(guest.heard))
        except OSError:
            heard = b""
        guest.heard += heard
        if len(guest.heard) == _NUMBER_BYTES:
            self.seen[int.from_bytes(guest.heard)] = guest.peer
            self.speaking.discard(int.from_bytes(guest.heard))
        if not heard or len(guest.heard) == _NUMBER_BYTES:
            self.selector.unregister(guest.socket)
            guest.socket.close()

    def _connected(self, caller: _Caller) -> None:
        self.selector.unregister(caller.socket)
        outcome = caller.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        one = caller.attempt
        self.verdicts[one] = _ended(outcome)
        if outcome == 0:
            caller.socket.send(one.source_port.to_bytes(_NUMBER_BYTES))
            if (self.owners.get(one.destination, ""), one.port) in self.listened and one.source_port not in self.seen:
                self.speaking.add(one.source_port)

    def _with_peer(self, one: ConnectionAttempt) -> ProbeResult:
        verdict = self.verdicts[one]
        return Arrived(seen_as=self.seen.get(one.source_port)) if isinstance(verdict, Arrived) else verdict


def _ended(outcome: int) -> ProbeResult:
    if outcome == 0 or outcome in _REACHED:
        return Arrived(seen_as=None)
    return Unexplained(words=os.strerror(outcome))


def _explained(
    open_ones: Sequence[ConnectionAttempt], drops: Iterable[PacketRecord]
) -> Iterator[tuple[ConnectionAttempt, ProbeResult]]:
    """The attempts without a verdict whose packets are among the refused ones."""
    out: dict[tuple[int, int], PacketRecord] = {}
    back: dict[tuple[int, int], PacketRecord] = {}
    for record in drops:
        out[record.source_port, record.destination_port] = record
        back[record.destination_port, record.source_port] = record
    for one in open_ones:
        ports = (one.source_port, one.port)
        if ports in out:
            yield one, _died(out[ports], "out")
        elif ports in back:
            yield one, _died(back[ports], "back")


def _died(record: PacketRecord, direction: Literal["out", "back"]) -> Died:
    cause = record.cause
    return Died(checkpoint=cause.checkpoint, resource=cause.resource, detail=cause.detail, direction=direction)
