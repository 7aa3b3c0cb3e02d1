"""The names of the router's and the internet's devices: Linux allows fifteen characters, ids are longer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from lab.model.outside import OutsideHost
from stack.network.model import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """By id of an interface, a NAT gateway, a gateway endpoint (on the router) and by name of a host outside."""

    interfaces: Mapping[str, str]
    nats: Mapping[str, str]
    services: Mapping[str, str]
    outside: Mapping[str, str]
    internet: str = "igw"
    vpn: str = "vpn"

    @classmethod
    def of(cls, network: Network, around: tuple[OutsideHost, ...]) -> Self:
        return cls(
            interfaces={one.id: f"i{place}" for place, one in enumerate(network.interfaces)},
            nats={one.id: f"n{place}" for place, one in enumerate(network.nat_gateways)},
            services={one.id: f"s{place}" for place, one in enumerate(network.gateway_endpoints)},
            outside={one.name: f"o{place}" for place, one in enumerate(around)},
        )

    def in_subnet(self, network: Network, subnet: str) -> tuple[str, ...]:
        """Of all that stands in a subnet, NAT gateways among them."""
        return (
            *(self.interfaces[one.id] for one in network.interfaces if one.subnet == subnet),
            *(self.nats[one.id] for one in network.nat_gateways if one.subnet == subnet),
        )
