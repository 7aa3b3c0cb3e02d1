"""A connection attempt and its result, in the terms that the oracle and the packets share."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

from lab.model.checkpoints import Checkpoint

type Protocol = Literal["tcp", "udp", "icmp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionAttempt:
    """A TCP connection from a host to an address, or a question with its answer by UDP, or an echo by ICMP.

    `source_port` is unique in one lab; an echo has it as its identifier, and no `port`.

    `spoofed_source` is the address that the host sends from instead of its own; None for its own.
    """

    source: str
    destination: IPv4Address
    port: int
    source_port: int
    spoofed_source: IPv4Address | None = None
    protocol: Protocol = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """The exchange was completed, or the other side refused the port itself: it was reached either way.

    `seen_as` is the sender's address as the other side saw it; None when nothing of the lab's listened there.
    """

    seen_as: IPv4Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """A packet was refused at `checkpoint` by `resource`; `detail` names the entry or the reason.

    `direction` is "out" for a packet of the attempt itself and "back" for the answer to it.
    """

    checkpoint: Checkpoint
    resource: str
    detail: str
    direction: Literal["out", "back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """Neither an answer nor a record of a refusal. This is no evidence of anything, and an error in every report."""

    reason: str


type PacketResult = Arrived | Died | Unexplained
