"""Who stands around the VPC: third parties, an attacker, corporate hosts, AWS's services. And the resolver's name."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from stack.network.model import Network

RESOLVER = "resolver"
STRANGERS = "strangers"  # who may be anywhere
OTHER_ADDRESS = "the answer comes from another address than was asked"  # so the connection does not open


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideHost:
    """A host that is not in the VPC: on the internet, in the corporate network, or a service behind a gateway endpoint.

    `endpoint` is the id of the gateway endpoint for a service, which stands on the internet too. One of the place
    "anywhere" is reached on the internet and, where there is a VPN, through it: it is whoever a route leads to.
    """

    name: str
    address: IPv4Address
    place: Literal["internet", "corporate", "service", "anywhere"]
    endpoint: str | None = None
    listens: tuple[int, ...] = (443,)


PARTNER = OutsideHost(name="partner", address=IPv4Address("198.51.100.10"), place="internet", listens=(80, 443))
ATTACKER = OutsideHost(name="attacker", address=IPv4Address("198.51.100.66"), place="internet", listens=(443,))


def standard_outside(network: Network) -> tuple[OutsideHost, ...]:
    """A third party, an attacker, one host in each corporate range and one for each service with a gateway endpoint."""
    corporate = network.vpn.corporate if network.vpn else ()
    return (
        PARTNER,
        ATTACKER,
        *(
            OutsideHost(
                name=_numbered("corporate", place), address=_tenth(cidr), place="corporate", listens=(443, 5432)
            )
            for place, cidr in enumerate(corporate)
        ),
        *(
            OutsideHost(
                name=endpoint.service, address=_tenth(endpoint.ranges[0]), place="service", endpoint=endpoint.id
            )
            for endpoint in network.gateway_endpoints
        ),
    )


def _tenth(cidr: IPv4Network) -> IPv4Address:
    return cidr[min(10, cidr.num_addresses - 1)]


def _numbered(word: str, place: int) -> str:
    return word if place == 0 else f"{word}-{place + 1}"
