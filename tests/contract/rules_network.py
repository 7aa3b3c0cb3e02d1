"""What the network must be, in every choice (tests/contract/cases.py). Each rule returns its faults in words.

Who reaches whom is worked out from routes, access lists and security groups on the network as it is read, not from
names: a rule that would hold for the templates as text and not for the packets is of no use here.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import reduce
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from typing import Any

from stack.functions import FUNCTIONS, Trigger
from stack.network.from_templates import HTTPS
from stack.network.model import (
    ANYWHERE,
    POSTGRESQL,
    GatewayEndpointTarget,
    Interface,
    InterfaceKind,
    InternetGatewayTarget,
    NatTarget,
    Network,
    Route,
    Rule,
    SecurityGroup,
    Subnet,
    VpnTarget,
)
from stack.network.reachability import inside, inward, outward, subnet_of
from stack.render import Dangling
from tests.contract.cases import VARIATIONS, Case, case, choices, everywhere
from tests.contract.project import Project

type Reach = tuple[str, int | None, int | None, str]  # protocol, first and last port, the other side

VPC_RANGES = ["10.64.0.0/16", "172.31.128.0/17", "192.168.240.0/20"]
# Hosts on the internet that nothing here knows: a plain one, and the neighbours of the range for developers.
STRANGERS = [IPv4Address(text) for text in ("198.19.255.250", "8.8.8.8", "198.51.99.255", "198.51.101.0", "1.0.0.1")]
PORTS = (22, 80, 443, 3306, 3389, 5432, 8080, 8443)
ECHO_PORTS = (443, 8443)  # those that EgressEchoUrl may name
# What a VPC function's role may do that needs no network of the function's own: the Lambda service writes its logs,
# manages its interfaces, receives from its queue, reports failed calls and passes traces on; other services ask KMS in
# its name; database tokens are signed locally.
WITHOUT_NETWORK = {"logs", "ec2", "kms", "rds-db", "xray"}
NO_OF_SQS = {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
BASTION_SERVICES = {"ssm", "ssmmessages"}  # ec2messages is for Run Command, which the bastion's role does not allow


def every_choice_can_be_made(project: Project) -> list[str]:
    """Nothing refers to what does not exist there (nor to an output that a condition leaves out), all can be read."""
    for name, parameters in choices(project):
        try:
            case(project, name, parameters)
        except Dangling as error:
            return [f"{name}: {error}"]
        except ValueError as error:
            return [f"{name}: cannot be read: {error}"]
    return []


def every_choice_is_offered_somewhere(project: Project) -> list[str]:
    """Else the rules below would hold for what nobody can have."""
    offered = {name.partition(" with ")[2] for name, _ in choices(project)}
    return [f"no topology takes {name}" for name in VARIATIONS if name not in offered]


# ---- Subnets


def subnets_do_not_overlap_and_lie_in_the_vpc(project: Project) -> list[str]:
    """For several ranges, the smallest among them, in every way of having subnets."""
    egresses = ("single", "per-az", "regional")
    networks = [project.network(VpcCidr=block, Egress=egress) for block in VPC_RANGES for egress in egresses]
    return [fault for network in networks for fault in _subnet_faults(network)]


def _subnet_faults(network: Network) -> Iterator[str]:
    for subnet in network.subnets:
        if not subnet.cidr.subnet_of(network.cidr):
            yield f"{subnet.id} {subnet.cidr} lies outside the VPC's {network.cidr}"
    for first, other in combinations(network.subnets, 2):
        if first.cidr.overlaps(other.cidr):
            yield f"{first.id} {first.cidr} overlaps {other.id} {other.cidr}"


@everywhere
def each_role_spans_two_zones(case: Case) -> Iterator[str]:
    """Private and database subnets lie in two zones; public ones too, where there are any; and nothing is left over."""
    for role in {"private", "database", *(subnet.role for subnet in case.network.subnets)}:
        zones = {subnet.zone for subnet in case.network.subnets if subnet.role == role}
        if len(zones) < 2 or role == "unused":
            yield f"the {role} subnets lie in {sorted(zones)}"


@everywhere
def every_subnet_has_one_route_table(case: Case) -> Iterator[str]:
    """Else it would use the VPC's main table, which nobody looks at."""
    associations = case.rendered.of_type("AWS::EC2::SubnetRouteTableAssociation").values()
    count = Counter(str(association["Properties"]["SubnetId"]) for association in associations)
    for subnet in case.network.subnets:
        if count[subnet.id] != 1:
            yield f"{subnet.id} has {count[subnet.id]} route tables"


@everywhere
def no_two_roles_share_a_route_table(case: Case) -> Iterator[str]:
    """A route for one role would be one for another."""
    roles: dict[str, set[str]] = {}
    for subnet in case.network.subnets:
        roles.setdefault(subnet.route_table, set()).add(subnet.role)
    yield from (f"{table} serves the {sorted(served)} subnets" for table, served in roles.items() if len(served) > 1)


@everywhere
def everything_stands_in_its_own_subnets(case: Case) -> Iterator[str]:
    """The database in the database's, all else in the private ones, NAT gateways in the public ones."""
    for interface in case.network.interfaces:
        wanted = "database" if interface.kind is InterfaceKind.DATABASE else "private"
        if subnet_of(case.network, interface).role != wanted:
            yield f"{interface.owner} stands in {interface.subnet}"
    roles = {subnet.id: subnet.role for subnet in case.network.subnets}
    for nat in case.network.nat_gateways:
        if nat.subnet and roles[nat.subnet] != "public":
            yield f"{nat.id} does not stand in a public subnet"
    for name, function in case.rendered.of_type("AWS::Lambda::Function").items():
        environment = function["Properties"].get("Environment", {}).get("Variables", {})
        if "DATABASE_HOST" in environment and "VpcConfig" not in function["Properties"]:
            yield f"{name} stands outside the VPC"


# ---- Who reaches the database


@everywhere
def exactly_those_who_may_reach_the_database(case: Case) -> Iterator[str]:
    """Functions that use it, proxy and bastion, from every subnet to every instance, whichever zone it is in."""
    users = {
        *_hosts(case),
        *(
            interface.owner
            for interface in case.network.interfaces
            if interface.kind in {InterfaceKind.PROXY, InterfaceKind.BASTION}
        ),
    }
    for network in case.networks:
        databases = [interface for interface in network.interfaces if interface.kind is InterfaceKind.DATABASE]
        for source in network.interfaces:
            may = source.owner in users
            for database in databases:
                passage = inside(network, source, database, POSTGRESQL)
                if source is not database and passage.open != may:
                    yield f"{source.id} {'cannot' if may else 'can'} reach {database.id}: {passage.stopped_by}"
        if not databases:
            yield "there is no database"


@everywhere
def functions_reach_the_host_that_they_are_told(case: Case) -> Iterator[str]:
    """The cluster, or RDS Proxy where there is one; nobody reaches the proxy who shares no group with those told."""
    told = _hosts(case)
    proxies = [interface for interface in case.network.interfaces if interface.kind is InterfaceKind.PROXY]
    for proxy in proxies:
        clients = [interface for interface in case.network.interfaces if told.get(interface.owner) == proxy.owner]
        groups = {group for interface in clients for group in interface.security_groups}
        for source in case.network.interfaces:
            passage = inside(case.network, source, proxy, POSTGRESQL)
            if passage.open != bool(groups & set(source.security_groups)):
                yield f"{source.id} {'reaches' if passage.open else 'cannot reach'} the proxy"
    known = {interface.owner for interface in proxies} | set(case.rendered.of_type("AWS::RDS::DBCluster"))
    yield from (f"{name} is told {host}" for name, host in told.items() if host not in known)


def _hosts(case: Case) -> dict[str, str]:
    """Which resource answers to the DATABASE_HOST of each function."""
    functions = case.rendered.of_type("AWS::Lambda::Function")
    variables = {
        name: function["Properties"].get("Environment", {}).get("Variables", {}) for name, function in functions.items()
    }
    hosts = {name: str(given["DATABASE_HOST"]) for name, given in variables.items() if "DATABASE_HOST" in given}
    return {name: re.sub(r"\.Endpoint(\.Address)?$", "", host) for name, host in hosts.items()}


@everywhere
def from_outside_only_those_asked_for_reach_the_database(case: Case) -> Iterator[str]:
    """DeveloperCidr in internet-accessible, CorporateCidr with CorporateDatabaseAccess, and nobody else at any port."""
    invited = _invited(case)
    visitors = [*STRANGERS, *(network[1] for network in invited), *(block[1] for block in _corporate(case))]
    for network in case.networks:
        for database in (interface for interface in network.interfaces if interface.kind is InterfaceKind.DATABASE):
            for visitor in visitors:
                may = any(visitor in block for block in invited)
                if inward(network, visitor, database, POSTGRESQL).open != may:
                    yield f"{visitor} {'cannot' if may else 'can'} reach {database.id}"
            if (database.public_address is not None) != case.can.public_database:
                yield f"{database.id} has the public address {database.public_address}"


@everywhere
def the_database_group_names_nobody_else(case: Case) -> Iterator[str]:
    """No range beyond those asked for, no group of nobody's, no port but 5432: what no visitor above would notice."""
    members = {group for interface in case.network.interfaces for group in interface.security_groups}
    for kind, invited in ((InterfaceKind.DATABASE, _invited(case)), (InterfaceKind.PROXY, [])):
        groups = {
            group
            for interface in case.network.interfaces
            if interface.kind is kind
            for group in interface.security_groups
        }
        for rule in (rule for group in case.network.security_groups if group.id in groups for rule in group.ingress):
            asked = rule.peer in invited if isinstance(rule.peer, IPv4Network) else rule.peer in members - groups
            if not asked or (rule.protocol, rule.first_port, rule.last_port) != ("tcp", POSTGRESQL, POSTGRESQL):
                yield f"{rule.id} lets in {rule.peer} on {rule.protocol} {rule.first_port}-{rule.last_port}"


@everywhere
def the_access_list_alone_keeps_others_from_the_database(case: Case) -> Iterator[str]:
    """With every security group open it still stops strangers and public subnets: one lock holds without the other."""
    network = _with_open_groups(case.network)
    for database in (interface for interface in network.interfaces if interface.kind is InterfaceKind.DATABASE):
        placed = replace(database, public_address=IPv4Address("203.0.113.200"), listens=PORTS)
        visitors = {*STRANGERS, *(block[1] for block in _corporate(case))}
        for visitor in visitors - {
            interface for interface in visitors for block in _invited(case) if interface in block
        }:
            if any(_acl_lets_in(network, visitor, placed, port) for port in PORTS):
                yield f"the access list lets {visitor} reach {database.id}"
        for subnet in network.subnets:
            neighbour = _standing_in(network, subnet)
            may = {POSTGRESQL} if subnet.role == "private" else set()
            found = {port for port in PORTS if inside(network, neighbour, placed, port).open}
            if found != may and subnet.role != "database":
                yield f"the access list opens {sorted(found)} of {database.id} to {subnet.id}"


def _acl_lets_in(network: Network, visitor: IPv4Address, database: Interface, port: int) -> bool:
    """With a way to and from everywhere, so that nothing but the access list can stop it."""
    table = subnet_of(network, database).route_table
    way = Route(id="anything", destination=ANYWHERE, target=InternetGatewayTarget(gateway="any"))
    tables = tuple(
        replace(route_table, routes=(way,)) if route_table.id == table else route_table
        for route_table in network.route_tables
    )
    return inward(replace(network, route_tables=tables), visitor, database, port).open


@everywhere
def the_database_opens_nothing_outwards(case: Case) -> Iterator[str]:
    """Not to the internet, not within the VPC."""
    for source in (interface for interface in case.network.interfaces if interface.kind is InterfaceKind.DATABASE):
        faults = [
            f"{address}" for address in STRANGERS for port in PORTS if _leaves(case.network, source, address, port)
        ]
        faults += [
            other.id
            for other in case.network.interfaces
            if other is not source and any(inside(case.network, source, other, port).open for port in other.listens)
        ]
        yield from (f"{source.id} can reach {fault}" for fault in faults)


@everywhere
def routes_of_the_database_subnets_are_those_asked_for(case: Case) -> Iterator[str]:
    """None; to the internet gateway in internet-accessible; to the VPN with CorporateDatabaseAccess."""
    wanted: set[tuple[IPv4Network, type]] = set()
    if case.can.public_database:
        wanted.add((ANYWHERE, InternetGatewayTarget))
    if case.says("CorporateDatabaseAccess") == "yes":
        wanted |= {(block, VpnTarget) for block in _corporate(case)}
    for table in _tables(case.network, "database"):
        found = {(route.destination, type(route.target)) for route in table.routes}
        if found != wanted:
            yield f"{table.id} leads to {found}"


# ---- What leaves, and by which address


@everywhere
def what_leaves_leaves_by_the_address_published_for_its_zone(case: Case) -> Iterator[str]:
    """From each private subnet by a NAT gateway; per-az by its own zone's, whose failure leaves the other alone."""
    if not case.can.has_internet:
        return
    told = {published.zone: published.public_address for published in case.network.published}
    for subnet in (subnet for subnet in case.network.subnets if subnet.role == "private"):
        seen = outward(_with_open_groups(case.network), _standing_in(case.network, subnet), STRANGERS[0], HTTPS).seen_as
        if seen is None or seen != told.get(subnet.zone):
            yield f"{subnet.id} leaves as {seen}, and partners are told {told.get(subnet.zone)}"
    yield from _egress_faults(case)


def _egress_faults(case: Case) -> Iterator[str]:
    gateways = {
        subnet.zone: _nat_of(case.network, subnet) for subnet in case.network.subnets if subnet.role == "private"
    }
    addresses = {published.public_address for published in case.network.published}
    wanted = {"single": (1, 1), "per-az": (2, 2), "regional": (1, 2)}[case.says("Egress")]
    if (len(set(gateways.values())), len(addresses)) != wanted:
        yield f"zones leave by {gateways} and {len(addresses)} addresses"
    places = {subnet.id: subnet.zone for subnet in case.network.subnets}
    for nat in case.network.nat_gateways:
        if case.says("Egress") == "per-az" and gateways.get(places.get(str(nat.subnet), "")) != nat.id:
            yield f"{nat.id} does not stand in the zone that it serves"
        if (nat.subnet is None) != (case.says("Egress") == "regional"):
            yield f"{nat.id} is not {case.says('Egress')}"


@everywhere
def partners_are_told_each_address_once(case: Case) -> Iterator[str]:
    """FixedAddresses and EgressAllocationIds name what EgressAddresses names, in the order of the zones."""
    addresses = [pair.partition("=")[2] for pair in case.output("EgressAddresses").split(",")]
    if list(dict.fromkeys(addresses)) != case.output("FixedAddresses").split(","):
        yield f"{case.output('FixedAddresses')} is told beside {case.output('EgressAddresses')}"
    allocations = list(dict.fromkeys(published.allocation for published in case.network.published))
    told = [text.removesuffix(".AllocationId") for text in case.output("EgressAllocationIds").split(",") if text]
    if told != allocations:
        yield f"{told} are told, and {allocations} are used"


@everywhere
def given_addresses_are_used_and_no_new_ones_made(case: Case) -> Iterator[str]:
    """Each given allocation id serves a gateway; each missing one is made, and no more."""
    given = [text for text in case.says("EgressAllocationIds").split(",") if text]
    used = {address.allocation for nat in case.network.nat_gateways for address in nat.addresses}
    made = set(case.rendered.of_type("AWS::EC2::EIP"))
    if not set(given) <= used or used - set(given) != made:
        yield f"{given} are given, {sorted(used)} are used, {sorted(made)} are made"


@everywhere
def no_way_round_the_nat_gateway(case: Case) -> Iterator[str]:
    """No public address but the database's where that is asked for, no subnet that hands any out, no IPv6."""
    for interface in case.network.interfaces:
        if interface.public_address and interface.kind is not InterfaceKind.DATABASE:
            yield f"{interface.owner} has an address of its own"
    for name, subnet in case.rendered.of_type("AWS::EC2::Subnet").items():
        if subnet["Properties"].get("MapPublicIpOnLaunch") is not False:
            yield f"{name} hands out addresses by itself"
    for name, resource in case.rendered.resources.items():
        if resource["Type"].split("::")[1] in {"EC2", "Lambda", "RDS"}:
            yield from (f"{name} uses IPv6: {place}" for place in _ipv6(resource["Properties"]))


def _ipv6(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, nested in value.items():
            if "ipv6" in key.lower() and nested is not False:
                yield key
            yield from _ipv6(nested)
    elif isinstance(value, list):
        yield from (fault for element in value for fault in _ipv6(element))
    elif isinstance(value, str) and (
        "dualstack" in value.lower().replace("-", "") or re.fullmatch(r"[0-9a-f:]*::/\d+", value)
    ):
        yield value


@everywhere
def nothing_leads_out_of_internal_only(case: Case) -> Iterator[str]:
    """No gateway, no NAT, no address, no route beyond VPN and S3; and no interface opens anything to a stranger."""
    if case.can.has_internet:
        return
    network = case.network
    kinds = ("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::EIP")
    yield from (f"there is {name}" for kind in kinds for name in case.rendered.of_type(kind))
    for table in network.route_tables:
        for route in table.routes:
            if not isinstance(route.target, VpnTarget | GatewayEndpointTarget) or route.destination == ANYWHERE:
                yield f"{route.id} leads to {route.destination}"
    for source in _with_open_groups(network).interfaces:
        if any(_leaves(_with_open_groups(network), source, address, HTTPS) for address in STRANGERS):
            yield f"{source.id} reaches the internet"


# ---- Who else talks to whom


@everywhere
def functions_let_nothing_in(case: Case) -> Iterator[str]:
    """Nor does the bastion."""
    groups = {
        group
        for interface in case.network.interfaces
        if interface.kind in {InterfaceKind.FUNCTION, InterfaceKind.BASTION}
        for group in interface.security_groups
    }
    for group in (group for group in case.network.security_groups if group.id in groups):
        yield from (f"{rule.id} lets {rule.peer} in" for rule in group.ingress)


@everywhere
def functions_reach_out_only_as_far_as_they_must(case: Case) -> Iterator[str]:
    """To ranges: those that call out on ALLOWED_PORTS, the egress check on an echo service's, the migration on 443."""
    groups = {group.id: group for group in case.network.security_groups}
    for interface in {
        interface.owner: interface for interface in case.network.interfaces if interface.kind is InterfaceKind.FUNCTION
    }.values():
        found = {
            (rule.peer, port)
            for group in interface.security_groups
            for rule in groups[group].egress
            if isinstance(rule.peer, IPv4Network)
            for port in (rule.first_port, rule.last_port)
        }
        wanted = _ranges_for(case, interface.owner)
        yield from (f"{interface.owner} may call {peer} on {port}" for peer, port in sorted(found - wanted, key=str))
        yield from (f"{interface.owner} cannot call {peer} on {port}" for peer, port in sorted(wanted - found, key=str))


def _ranges_for(case: Case, function: str) -> set[tuple[IPv4Network, int]]:
    purpose = FUNCTIONS[function]
    if purpose.calls_partners:
        private = [IPv4Network(text) for text in case.says("AllowedPrivateCidrs").split(",") if text]
        ranges = [ANYWHERE] if case.can.has_internet else private
        return {(block, port) for block in ranges for port in _allowed_ports(case)}
    if purpose.checked_zone:
        return {(ANYWHERE, port) for port in ECHO_PORTS}
    traces = case.says("Tracing") == "otel" and case.can.has_internet
    return {(ANYWHERE, HTTPS)} if purpose.trigger is Trigger.CUSTOM_RESOURCE or traces else set()


def _allowed_ports(case: Case) -> set[int]:
    functions = case.rendered.of_type("AWS::Lambda::Function").values()
    lists = {
        function["Properties"].get("Environment", {}).get("Variables", {}).get("ALLOWED_PORTS")
        for function in functions
    }
    return {int(port) for ports in lists if ports for port in ports.split(",")}


@everywhere
def interface_endpoints_are_those_that_are_needed(case: Case) -> Iterator[str]:
    """Without internet: what the functions' roles and the bastion call. Else: what InterfaceEndpoints names."""
    found = Counter(service for service, _ in case.network.service_endpoints)
    wanted = {text for text in case.says("InterfaceEndpoints").split(",") if text}
    if not case.can.has_internet:
        wanted = _called(case)
        wanted |= BASTION_SERVICES if case.says("Bastion") == "yes" else set()
    if case.can.private_api:
        wanted.add("execute-api")
    if found != Counter(wanted):
        yield f"there are endpoints for {sorted(found.elements())}, and {sorted(wanted)} are needed"


def _called(case: Case) -> set[str]:
    """The services that functions in the VPC call, by the policies of their roles."""
    return {service for services in _called_by(case).values() for service in services}


def _called_by(case: Case) -> dict[str, set[str]]:
    functions = case.rendered.of_type("AWS::Lambda::Function")
    placed = {name: function for name, function in functions.items() if "VpcConfig" in function["Properties"]}
    failures = [
        config["Properties"]["DestinationConfig"]["OnFailure"]["Destination"]
        for config in case.rendered.of_type("AWS::Lambda::EventInvokeConfig").values()
    ]
    return {name: _services(case, str(function["Properties"]["Role"]), failures) for name, function in placed.items()}


def _services(case: Case, role: str, failures: list[str]) -> set[str]:
    properties = case.rendered.resources[role.removesuffix(".Arn")]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    documents += [
        case.rendered.resources[name]["Properties"]["PolicyDocument"]
        for name in properties.get("ManagedPolicyArns", [])
        if name in case.rendered.resources
    ]
    statements = [
        statement
        for document in documents
        for statement in document["Statement"]
        if statement["Effect"] == "Allow" and statement["Resource"] not in failures
    ]
    actions = {action for statement in statements for action in _listed(statement["Action"])} - NO_OF_SQS
    by_gateway = {"s3"}  # whose endpoint is no interface; the Rules let internal-only have no other way to S3
    silent = by_gateway | (WITHOUT_NETWORK - ({"xray"} if case.says("Tracing") == "otel" else set()))
    return {str(action).partition(":")[0] for action in actions} - silent


@everywhere
def endpoints_open_to_those_who_call_them(case: Case) -> Iterator[str]:
    """On 443 to the functions whose roles name the service and to the bastion; the API's to callers; no other range."""
    network = case.network
    called = _called_by(case)
    services = {owner: service for service, owner in network.service_endpoints}
    for endpoint in (interface for interface in network.interfaces if interface.kind is InterfaceKind.ENDPOINT):
        service = services[endpoint.owner]
        for source in network.interfaces:
            needs = service in called.get(source.owner, set())
            needs |= source.kind is InterfaceKind.BASTION and service in BASTION_SERVICES
            if needs and not case.can.has_internet and not inside(network, source, endpoint, HTTPS).open:
                yield f"{source.id} cannot reach {service}"
        asked = {network.cidr, *_corporate(case), *_callers(case)} if service == "execute-api" else set()
        ranges = {rule.peer for rule in _ingress(network, endpoint) if isinstance(rule.peer, IPv4Network)}
        yield from (f"{service} is open to {block}" for block in ranges - asked)
        yield from (f"{service} is not open to {block}" for block in asked - ranges)
        if any((rule.first_port, rule.last_port) != (HTTPS, HTTPS) for rule in _ingress(network, endpoint)):
            yield f"{service} is open on more than 443"


@everywhere
def no_group_has_a_rule_twice(case: Case) -> Iterator[str]:
    """EC2 keeps two rules alike as one. The resource that goes first then takes it away from the other."""
    for group in case.network.security_groups:
        for direction in (group.ingress, group.egress):
            alike = Counter((rule.protocol, rule.first_port, rule.last_port, rule.peer) for rule in direction)
            yield from (f"{group.id} has a rule for {rule[3]} twice" for rule, count in alike.items() if count > 1)


@everywhere
def the_corporate_network_reaches_what_it_should(case: Case) -> Iterator[str]:
    """The private API, the database if asked, and nothing else."""
    services = {owner: service for service, owner in case.network.service_endpoints}
    for block in _corporate(case):
        for interface in case.network.interfaces:
            may = services.get(interface.owner) == "execute-api"
            may |= interface.kind is InterfaceKind.DATABASE and case.says("CorporateDatabaseAccess") == "yes"
            if any(inward(case.network, block[9], interface, port).open for port in interface.listens) != may:
                yield f"{block} {'cannot' if may else 'can'} reach {interface.id}"


# ---- Common parts


def _invited(case: Case) -> list[IPv4Network]:
    """The ranges outside the VPC that may reach the database."""
    invited = [case.says("DeveloperCidr")] if case.can.public_database else []
    invited += [case.says("CorporateCidr")] if case.says("CorporateDatabaseAccess") == "yes" else []
    return [IPv4Network(text) for text in invited]


def _corporate(case: Case) -> list[IPv4Network]:
    return [IPv4Network(case.says("CorporateCidr"))] if case.can.has_vpn else []


def _callers(case: Case) -> list[IPv4Network]:
    return [IPv4Network(text) for text in case.says("AllowedCallerCidrs").split(",") if text]


def _tables(network: Network, role: str) -> list[Any]:
    used = {subnet.route_table for subnet in network.subnets if subnet.role == role}
    return [table for table in network.route_tables if table.id in used]


def _nat_of(network: Network, subnet: Subnet) -> str:
    (table,) = (table for table in network.route_tables if table.id == subnet.route_table)
    return next((route.target.nat for route in table.routes if isinstance(route.target, NatTarget)), "nothing")


def _leaves(network: Network, source: Interface, address: IPv4Address, port: int) -> bool:
    return outward(network, source, address, port).open


def _standing_in(network: Network, subnet: Subnet) -> Interface:
    """Anything at all in a subnet, with every group there is."""
    return Interface(
        id=f"anything/{subnet.id}",
        owner="anything",
        kind=InterfaceKind.FUNCTION,
        subnet=subnet.id,
        address=subnet.cidr[200],
        security_groups=tuple(group.id for group in network.security_groups),
    )


def _with_open_groups(network: Network) -> Network:
    """The same network with every group open to everything."""
    anything = Rule(id="anything", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
    opened = tuple(
        SecurityGroup(id=group.id, ingress=(anything,), egress=(anything,)) for group in network.security_groups
    )
    return replace(network, security_groups=opened)


def _ingress(network: Network, interface: Interface) -> list[Rule]:
    groups = [group for group in network.security_groups if group.id in interface.security_groups]
    return reduce(lambda rules, group: rules + list(group.ingress), groups, list[Rule]())


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]


RULES = [
    every_choice_can_be_made,
    every_choice_is_offered_somewhere,
    subnets_do_not_overlap_and_lie_in_the_vpc,
    each_role_spans_two_zones,
    every_subnet_has_one_route_table,
    no_two_roles_share_a_route_table,
    everything_stands_in_its_own_subnets,
    exactly_those_who_may_reach_the_database,
    functions_reach_the_host_that_they_are_told,
    from_outside_only_those_asked_for_reach_the_database,
    the_database_group_names_nobody_else,
    the_access_list_alone_keeps_others_from_the_database,
    the_database_opens_nothing_outwards,
    routes_of_the_database_subnets_are_those_asked_for,
    what_leaves_leaves_by_the_address_published_for_its_zone,
    partners_are_told_each_address_once,
    given_addresses_are_used_and_no_new_ones_made,
    no_way_round_the_nat_gateway,
    nothing_leads_out_of_internal_only,
    functions_let_nothing_in,
    functions_reach_out_only_as_far_as_they_must,
    interface_endpoints_are_those_that_are_needed,
    endpoints_open_to_those_who_call_them,
    no_group_has_a_rule_twice,
    the_corporate_network_reaches_what_it_should,
]
