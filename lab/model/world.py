"""The hosts around the VPC when programs run, and the DNS names.

The functions' guard refuses addresses that are not public, documentation ranges among them, so the hosts of the lab's
internet have addresses of 192.0.43.0/24, which belongs to the keepers of the example domains. No packet of the lab's
leaves the machine, whatever its address.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from lab.model.errors import ProgramCannotRun
from lab.model.outside import OutsideHost
from stack.network.model import ANYWHERE, Interface, InterfaceKind, Network, Rule, SecurityGroup, Subnet

PARTNER, ECHO, AWS, API, CALLER, ATTACKER = "partner", "echo", "aws", "api", "caller", "attacker"
DEVELOPER, CORPORATE, S3, NEIGHBOUR = "developer", "corporate", "s3", "neighbour"
HTTPS = 443

PARTNER_NAME = "partner.example.com"
CORPORATE_NAME = "erp.corp.example.com"
NOBODY_NAME = "nobody.corp.example.com"
SERVICES = ("sqs", "secretsmanager", "ssm")
_INTERNET = IPv4Network("192.0.43.0/24")
_HOSTS = {PARTNER: 10, ECHO: 20, AWS: 30, API: 40, CALLER: 50, ATTACKER: 66}
_S3_PLACE = 35  # where no gateway endpoint says which addresses S3 has


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Addresses by name, as the VPC's resolver answers (`inside`) and as public resolvers do (`outside`)."""

    inside: Mapping[str, tuple[IPv4Address, ...]]
    outside: Mapping[str, tuple[IPv4Address, ...]]


def world(network: Network, parameters: Mapping[str, str]) -> tuple[OutsideHost, ...]:
    """The hosts around `network`; `parameters` are the root template's, of which it uses DeveloperCidr."""
    internet = tuple(
        OutsideHost(name=name, address=_INTERNET[place], place="internet", listens=(HTTPS,))
        for name, place in _HOSTS.items()
    )
    return (*internet, *_developer(parameters), *_corporate(network), *_services(network))


def with_neighbour(network: Network) -> Network:
    """`network` with an unrelated host in its first private subnet, whose own security group allows all outbound
    traffic.

    It calls a private API that nobody outside of the VPC can reach. Raises ProgramCannotRun where there is no such
    subnet.
    """
    subnet = next((subnet for subnet in network.subnets if subnet.role == "private"), None)
    if subnet is None:
        raise ProgramCannotRun(network.vpc, "it has no private subnet to call the private API from")
    out = Rule(id=f"{NEIGHBOUR} egress", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
    host = Interface(
        id=NEIGHBOUR,
        owner=NEIGHBOUR,
        kind=InterfaceKind.BASTION,
        subnet=subnet.id,
        address=_free(network, subnet),
        security_groups=(NEIGHBOUR,),
    )
    group = SecurityGroup(id=NEIGHBOUR, ingress=(), egress=(out,))
    return replace(network, interfaces=(*network.interfaces, host), security_groups=(*network.security_groups, group))


def names(
    network: Network,
    around: tuple[OutsideHost, ...],
    *,
    region: str,
    database: tuple[str, Interface],
    api: str,
    private: bool,
    nobody: IPv4Address | None,
) -> Names:
    """Every name of the lab. `database` is the cluster's host name and the writer's interface; `api` the API's name.

    `nobody` is an address that functions may call and where nobody is.

    An interface endpoint with private DNS turns the service's own name to its addresses, inside of the VPC alone
    (https://docs.aws.amazon.com/vpc/latest/privatelink/manage-dns-names.html). The name of a private API with the
    endpoint's id in it resolves everywhere, to the endpoint's private addresses.
    """
    at = {host.name: host.address for host in around}
    host, writer = database
    everywhere = {
        PARTNER_NAME: (at[PARTNER],),
        "checkip.amazonaws.com": (at[ECHO],),
        api: _endpoint(network, "execute-api") if private else (at[API],),
        bucket(region): (at[S3],),
        **{f"{service}.{region}.amazonaws.com": (at[AWS],) for service in SERVICES},
        **({CORPORATE_NAME: (at[CORPORATE],)} if CORPORATE in at else {}),
        **({NOBODY_NAME: (nobody,)} if nobody else {}),
    }
    turned = {f"{service}.{region}.amazonaws.com": _endpoint(network, service) for service in SERVICES}
    inside = (
        everywhere | {name: addresses for name, addresses in turned.items() if addresses} | {host: (writer.address,)}
    )
    return Names(inside=inside, outside=everywhere | {host: (writer.public_address or writer.address,)})


def bucket(region: str) -> str:
    """The host that custom resources send their responses to: CloudFormation's bucket in the Region."""
    return f"cloudformation-custom-resource-response-{region.replace('-', '')}.s3.amazonaws.com"


def _endpoint(network: Network, service: str) -> tuple[IPv4Address, ...]:
    owners = {owner for name, owner in network.service_endpoints if name == service}
    return tuple(interface.address for interface in network.interfaces if interface.owner in owners)


def _developer(parameters: Mapping[str, str]) -> tuple[OutsideHost, ...]:
    cidr = parameters.get("DeveloperCidr", "")
    if not cidr:
        return ()
    return (OutsideHost(name=DEVELOPER, address=_of(IPv4Network(cidr), 7), place="internet", listens=()),)


def _corporate(network: Network) -> tuple[OutsideHost, ...]:
    ranges = network.vpn.corporate if network.vpn else ()
    return tuple(
        OutsideHost(name=_numbered(CORPORATE, place), address=_of(cidr, 10), place="corporate", listens=(HTTPS,))
        for place, cidr in enumerate(ranges)
    )


def _services(network: Network) -> tuple[OutsideHost, ...]:
    """Behind the VPC's gateway endpoints, and S3 in any case."""
    hosts = tuple(
        OutsideHost(name=endpoint.service, address=_of(endpoint.ranges[0], 10), place="service", endpoint=endpoint.id)
        for endpoint in network.gateway_endpoints
    )
    if any(host.name == S3 for host in hosts):
        return hosts
    return (*hosts, OutsideHost(name=S3, address=_INTERNET[_S3_PLACE], place="internet", listens=(HTTPS,)))


def tenth(ranges: str) -> IPv4Address | None:
    """The tenth address of the first of some ranges, which are separated by commas; None for none."""
    first = ranges.partition(",")[0]
    return _of(IPv4Network(first), 10) if first else None


def _of(cidr: IPv4Network, place: int) -> IPv4Address:
    return cidr[min(place, cidr.num_addresses - 1)]


def _numbered(word: str, place: int) -> str:
    return word if place == 0 else f"{word}-{place + 1}"


def _free(network: Network, subnet: Subnet) -> IPv4Address:
    """From the end of the subnet, below the broadcast address, which AWS reserves."""
    taken = {interface.address for interface in network.interfaces} | {nat.address for nat in network.nat_gateways}
    return next(address for place in range(2, 250) if (address := subnet.cidr[-place]) not in taken)
