"""The VPC's name server at the base of its range plus two, over UDP and TCP.

https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html. It answers A questions for the lab's names; a
name that is not known does not exist, and other kinds of records are empty.
"""

import threading
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, TCPServer, UDPServer

from lab.kernel.apply import Lab
from lab.kernel.sandbox import MS_BIND, mount
from lab.model.outside import RESOLVER

_PORT = 53
_SECONDS_TO_LIVE = 5  # Aurora's own, for its cluster endpoint
_LOOK_SECONDS = 0.05  # how often a server looks whether it is to stop


class Resolver(BaseResolver):  # type: ignore[misc] # it carries no types
    """Answers from a table. `asked` are all questions so far, by name."""

    def __init__(self, lab: Lab, address: IPv4Address, table: Mapping[str, tuple[IPv4Address, ...]]) -> None:
        self._table = {name.lower(): addresses for name, addresses in table.items()}
        self.asked: list[str] = []
        with lab.inside(RESOLVER):
            self._servers = [server((str(address), _PORT), DNSHandler) for server in (UDPServer, TCPServer)]
        for server in self._servers:
            server.resolver, server.logger = self, DNSLogger(log="-request,-reply,-truncated,-error", prefix=False)
            threading.Thread(target=server.serve_forever, args=(_LOOK_SECONDS,), name="resolver", daemon=True).start()

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:  # noqa: ARG002 - as the library calls it
        """One question, one answer."""
        name = str(request.q.qname).rstrip(".").lower()
        self.asked.append(name)
        reply = request.reply()
        addresses = self._table.get(name)
        if addresses is None:
            reply.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype == QTYPE.A:
            for address in addresses:
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(str(address)), ttl=_SECONDS_TO_LIVE))
        return reply

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def hide_machine(directory: Path) -> None:
    """From now on nobody in this sandbox asks the machine's name servers, the lab's own process included.

    Servers look their own name up when they start, and would wait for an answer that cannot come.
    """
    if not (directory / "machine").exists():
        for target, source in _written(directory / "machine", "", "", "files").items():
            mount(source, target, "", MS_BIND)


def covers(
    directory: Path, resolver: IPv4Address, table: Mapping[str, tuple[IPv4Address, ...]]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The files that programs in the VPC, and programs outside of it, see in place of the machine's own.

    Those inside ask `resolver`; those outside read `table` out of their /etc/hosts and ask nobody.
    """
    inside = _written(directory / "inside", f"nameserver {resolver}\noptions timeout:2 attempts:2\n", "", "files dns")
    lines = "".join(f"{address} {name}\n" for name, addresses in table.items() for address in addresses)
    return inside, _written(directory / "outside", "", lines, "files")


def _written(directory: Path, resolv: str, hosts: str, order: str) -> Mapping[str, str]:
    directory.mkdir()
    texts = {
        "resolv.conf": resolv,
        "hosts": f"127.0.0.1 localhost\n{hosts}",
        "nsswitch.conf": f"passwd: files\ngroup: files\nhosts: {order}\n",
    }
    for name, text in texts.items():
        (directory / name).write_text(text)
    return {f"/etc/{name}": str(directory / name) for name in texts if Path("/etc", name).exists()}
