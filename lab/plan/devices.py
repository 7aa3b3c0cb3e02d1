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
            interfaces={interface.id: f"i{place}" for place, interface in enumerate(network.interfaces)},
            nats={nat.id: f"n{place}" for place, nat in enumerate(network.nat_gateways)},
            services={endpoint.id: f"s{place}" for place, endpoint in enumerate(network.gateway_endpoints)},
            outside={host.name: f"o{place}" for place, host in enumerate(around)},
        )

    def in_subnet(self, network: Network, subnet: str) -> tuple[str, ...]:
        """Of everything in a subnet, including NAT gateways."""
        return (
            *(self.interfaces[interface.id] for interface in network.interfaces if interface.subnet == subnet),
            *(self.nats[nat.id] for nat in network.nat_gateways if nat.subnet == subnet),
        )
