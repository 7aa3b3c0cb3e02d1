"""The kernel objects that make up a VPC: namespaces, links, addresses, routes and filters, as data.

A host is a namespace with one interface whose only way out is the router, so every filter
stands outside of the workload. The router is the VPC. NAT gateways, the internet, the VPN gateway, the services behind
gateway endpoints and the resolver are namespaces of their own.

Each refusal carries a FilterCause, whose number travels in the packet's mark to a set of the kernel's; so a packet that
died is known with the checkpoint and the resource that refused it, and one that merely got lost is not mistaken for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from lab.model.checkpoints import Checkpoint
from stack.network.model import ANYWHERE

ROUTER, INTERNET, VPN = "router", "internet", "vpn"
NOWHERE = "nowhere"  # the device that packets without a route are sent to, so that the filter can say why

# Each hub answers for one address on all its links; they differ, since a NAT gateway is linked to two of them.
ROUTER_ADDRESS = IPv4Address("169.254.1.1")
INTERNET_ADDRESS = IPv4Address("169.254.2.1")
VPN_ADDRESS = IPv4Address("169.254.3.1")

INSIDE_TABLE = 50  # all interfaces of the VPC, one route each
FIRST_TABLE = 100  # the route tables of the VPC, in their order


class UnsupportedNetwork(ValueError):
    """The Network lacks something that decides where packets go."""

    def __init__(self, resource: str, missing: str) -> None:
        super().__init__(f"{resource}: {missing}")
        self.resource, self.missing = resource, missing


# ---- The parts


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterCause:
    """Why a packet is refused, or by what it was let through."""

    checkpoint: Checkpoint
    resource: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A veth pair between two namespaces; the same namespace twice for a device that leads nowhere."""

    near: str
    near_device: str
    far: str
    far_device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAddress:
    """One address of a device, always alone (/32): who is a neighbour is decided by routes."""

    namespace: str
    device: str
    address: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True)
class LinuxRoute:
    """`device` is None for a throw route, which sends the lookup on to the next table. 254 is Linux's main table."""

    namespace: str
    destination: IPv4Network
    device: str | None
    gateway: IPv4Address | None = None
    table: int = 254


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Packets that come in by `device` and go to `destination` (None: any) are routed by `table`."""

    namespace: str
    priority: int
    table: int
    device: str | None = None
    destination: IPv4Network | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A file under /proc/sys/net of that namespace."""

    namespace: str
    path: str
    value: str


type FilterAction = Literal["refuse", "pass", "return", "accept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRule:
    """One line of a chain: `match` in nft's syntax, then what follows. Refusing and passing are recorded under `cause`.

    `action` may also be "jump <chain>"; None when the match is a statement that does its work itself.
    """

    match: str = ""
    action: str | None = None
    cause: FilterCause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """`hook` in nft's syntax for a base chain, None for one that others jump to."""

    name: str
    hook: str | None
    filters: tuple[FilterRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSet:
    """A named set, or a map when `values` are given."""

    name: str
    type: str
    elements: tuple[str, ...]
    is_map: bool = False
    flags: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruleset:
    """All filters of one namespace."""

    namespace: str
    sets: tuple[NamedSet, ...]
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A namespace that programs run in or packets are sent to. `addresses` are all by which others may try it.

    `shares` is the namespace of one that has none of its own; it sends from its only address.
    """

    name: str
    addresses: tuple[IPv4Address, ...]
    listens: tuple[int, ...]
    sends: bool  # whether attempts start here
    shares: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything to be made, in the order of the fields."""

    namespaces: tuple[str, ...]
    links: tuple[Link, ...]
    addresses: tuple[DeviceAddress, ...]
    settings: tuple[Setting, ...]
    routes: tuple[LinuxRoute, ...]
    lookups: tuple[Lookup, ...]
    rulesets: tuple[Ruleset, ...]
    hosts: tuple[Host, ...]


type PlanMutation = Callable[[Plan], Plan]


# ---- Writing a plan


@dataclass(slots=True)
class Draft:
    """A plan that is being written."""

    namespaces: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    addresses: list[DeviceAddress] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    routes: list[LinuxRoute] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)
    rulesets: list[Ruleset] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)

    def namespace(self, name: str, *, forwards: bool) -> None:
        """`forwards`: whether it passes on packets that are not for itself."""
        if name in self.namespaces:
            raise UnsupportedNetwork(name, "another host has the same name")
        self.namespaces.append(name)
        settings = _SETTINGS | (_FORWARDING if forwards else {})
        self.settings += [Setting(namespace=name, path=path, value=value) for path, value in settings.items()]

    def link(self, near: str, near_device: str, far: str, far_device: str) -> None:
        self.links.append(Link(near=near, near_device=near_device, far=far, far_device=far_device))

    def address(self, namespace: str, device: str, *addresses: IPv4Address) -> None:
        self.addresses += [DeviceAddress(namespace=namespace, device=device, address=address) for address in addresses]

    def route(
        self,
        namespace: str,
        destination: IPv4Network,
        device: str | None,
        gateway: IPv4Address | None = None,
        table: int = 254,
    ) -> None:
        self.routes.append(
            LinuxRoute(namespace=namespace, destination=destination, device=device, gateway=gateway, table=table)
        )

    def nowhere(self, namespace: str, table: int = 254) -> None:
        """What has no other route goes to a device that leads nowhere, where the filter says why."""
        if not any(link.near == namespace and link.near_device == NOWHERE for link in self.links):
            self.link(namespace, NOWHERE, namespace, f"{NOWHERE}-end")
        self.route(namespace, ANYWHERE, NOWHERE, table=table)

    def finish(self) -> Plan:
        return Plan(
            namespaces=tuple(self.namespaces),
            links=tuple(self.links),
            addresses=tuple(self.addresses),
            settings=tuple(self.settings),
            routes=tuple(self.routes),
            lookups=tuple(self.lookups),
            rulesets=tuple(self.rulesets),
            hosts=tuple(self.hosts),
        )


_SETTINGS = {
    "ipv4/conf/all/rp_filter": "0",  # the filters of the plan say which source is wrong, and they keep a record
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/ip_unprivileged_port_start": "0",  # programs in a user namespace of their own listen on 443 too
}
_FORWARDING = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
}


def alone(address: IPv4Address) -> IPv4Network:
    """The /32 of an address."""
    return IPv4Network((address, 32))
