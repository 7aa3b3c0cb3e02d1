"""Rendered templates as a network: what stack/network/model.py describes, read from what the templates would make.

Whatever decides who reaches whom is read or refused; nothing is left out in silence. A resource that stands in the VPC
or shapes its traffic and is not known here raises Unmodelled, and so does a reference to what is not in the templates.

What only AWS chooses gets a stand-in, the same one every time: fixed addresses from 203.0.113.0/24 (.10 for zone A's,
.11 for zone B's), public addresses of instances from 203.0.113.200 on, private addresses of each subnet from its fourth
on (AWS keeps the first four), and the ranges in SERVICE_RANGES for the prefix lists of S3 and DynamoDB. All of those
are ranges for documentation (RFC 5737), so none can be taken for a real one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from typing import Any, Literal

from stack.network.model import (
    ANYWHERE,
    POSTGRESQL,
    Blackhole,
    GatewayEndpoint,
    GatewayEndpointTarget,
    Interface,
    InterfaceKind,
    InternetGatewayTarget,
    Nacl,
    NaclEntry,
    NatAddress,
    NatGateway,
    NatTarget,
    Network,
    Route,
    RouteTable,
    RouteTarget,
    Rule,
    SecurityGroup,
    Subnet,
    Vpn,
    VpnTarget,
)
from stack.network.properties import TABLE, refusals
from stack.render import Rendered

FIXED = IPv4Address("203.0.113.10")
PUBLIC = IPv4Address("203.0.113.200")
RESERVED = 4  # the network's own address and three of AWS's (the last one too, which nothing here comes near)
SERVICE_RANGES = {
    "s3": (IPv4Network("192.0.2.0/26"), IPv4Network("192.0.2.64/26")),
    "dynamodb": (IPv4Network("192.0.2.128/26"),),
}
HTTPS = 443
PROTOCOLS: Mapping[str, Literal["tcp", "udp", "icmp", "any"]] = {
    "tcp": "tcp",
    "6": "tcp",
    "udp": "udp",
    "17": "udp",
    "icmp": "icmp",
    "1": "icmp",
    "-1": "any",
}
ROUTE_TARGETS = ("GatewayId", "NatGatewayId")
# What refers to one of these, or has a property that is called as below, stands in a VPC. It is read, or refused.
GROUND = ("AWS::EC2::SecurityGroup", "AWS::EC2::Subnet", "AWS::EC2::VPC")
PLACES = {
    "NetworkConfiguration",
    "SecurityGroupIds",
    "SubnetId",
    "SubnetIds",
    "VPCZoneIdentifier",
    "VpcConfig",
    "VpcConfiguration",
    "VpcId",
    "VpcSecurityGroupIds",
    "VpcSubnetIds",
}
READ = {kind for kind in TABLE if "/" not in kind}
HARMLESS = {  # of the VPC, and without a say in where a packet goes
    "AWS::CloudFormation::Stack",
}


class Unmodelled(ValueError):
    """Something on the path cannot be read. `address` is the resource, `missing` what is not known about it."""

    def __init__(self, address: str, missing: str) -> None:
        super().__init__(f"{address}: {missing}")
        self.address = address
        self.missing = missing


def network(rendered: Rendered, *, first_zone: int = 0) -> Network:
    """The VPC of a rendered application. Raises Unmodelled.

    AWS chooses where an instance of the database stands unless the template names its zone. Here the first stands in
    the subnet number `first_zone` of its subnet group, the next in the one after it.
    """
    return _Reading(rendered, first_zone).network()


@dataclass(slots=True)
class _Reading:
    rendered: Rendered
    first_zone: int
    taken: dict[str, Iterator[int]] = field(default_factory=dict)  # per subnet, the next free address
    at: str = ""  # the resource that is read

    def network(self) -> Network:
        """Whatever cannot be read has the name of its resource, and a value that is no range or number too."""
        try:
            return self._network()
        except Unmodelled:
            raise
        except (ValueError, TypeError, AttributeError) as error:
            raise Unmodelled(self.at, f"a value that cannot be read: {error}") from error

    def _network(self) -> Network:
        ground = {name for kind in GROUND for name in self.rendered.of_type(kind)}
        for address, resource in self.rendered.resources.items():
            _refuse_unknown(address, resource, ground)
        vpc, properties = self._only("AWS::EC2::VPC")
        self._refuse_nameless(vpc, properties)
        subnets = self._subnets(vpc)
        return Network(
            vpc=vpc,
            cidr=_canonical(vpc, properties["CidrBlock"]),
            zones=tuple(sorted({subnet.zone for subnet in subnets})),
            internet_gateway=self._attached("InternetGatewayId"),
            subnets=subnets,
            route_tables=self._route_tables(vpc),
            security_groups=self._security_groups(),
            nacls=self._nacls(),
            nat_gateways=self._nat_gateways(subnets),
            gateway_endpoints=self._gateway_endpoints(),
            vpn=self._vpn(),
            interfaces=tuple(self._interfaces(subnets)),
            published=self._published(),
            service_endpoints=tuple(
                (_service(resource["ServiceName"]), address) for address, resource in self._endpoints("Interface")
            ),
        )

    # ---- looking things up

    def _of(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for address, resource in self.rendered.of_type(kind).items():
            self.at = address
            yield address, _Given(address, resource["Properties"])

    def _only(self, kind: str) -> tuple[str, dict[str, Any]]:
        matching = list(self._of(kind))
        if len(matching) != 1:
            raise Unmodelled(kind, f"there are {len(matching)}, and one is known how to read")
        return matching[0]

    def _refuse_nameless(self, vpc: str, properties: Mapping[str, Any]) -> None:
        """What the functions need of names: the database's, and those of AWS's services where they have endpoints.

        https://docs.aws.amazon.com/vpc/latest/privatelink/interface-endpoints.html: private DNS needs DNS host names,
        and takes over the names of all APIs of a Region where it is the API's own endpoint that has it.
        """
        endpoints = list(self._endpoints("Interface"))
        if not _is_true(properties.get("EnableDnsHostnames", False)) and (endpoints or self._has_database()):
            raise Unmodelled(vpc, "EnableDnsHostnames: it is off, and the database or the endpoints are found by name")
        for address, endpoint in endpoints:
            is_api = _service(endpoint["ServiceName"]) == "execute-api"
            if _is_true(endpoint.get("PrivateDnsEnabled", False)) == is_api:
                why = "it would take over the names of all APIs" if is_api else "the service keeps its public addresses"
                raise Unmodelled(address, f"PrivateDnsEnabled: {why}")

    def _has_database(self) -> bool:
        return bool(self.rendered.of_type("AWS::RDS::DBInstance"))

    def _to(self, value: Any, kind: str, *, of: str) -> str:
        """The address of the resource that a Ref or an attribute stands for, which must be of a kind."""
        name = str(value)
        while name and name not in self.rendered.resources:
            name = name.rpartition(".")[0]
        if not name or self.rendered.resources[name]["Type"] != kind:
            raise Unmodelled(of, f"{value} is not {kind} of these templates")
        return name

    def _attached(self, key: str) -> str | None:
        """The gateway of a kind that is attached to the VPC."""
        kind = {"InternetGatewayId": "AWS::EC2::InternetGateway", "VpnGatewayId": "AWS::EC2::VPNGateway"}[key]
        gateways = [
            self._to(properties[key], kind, of=address)
            for address, properties in self._of("AWS::EC2::VPCGatewayAttachment")
            if key in properties
        ]
        if len(gateways) > 1:
            raise Unmodelled(gateways[1], "it is the second of its kind")
        return gateways[0] if gateways else None

    def _endpoints(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for address, properties in self._of("AWS::EC2::VPCEndpoint"):
            if properties.get("VpcEndpointType", "Gateway") not in {"Gateway", "Interface"}:
                raise Unmodelled(address, f"an endpoint of the type {properties['VpcEndpointType']}")
            if properties.get("VpcEndpointType", "Gateway") == kind:
                yield address, properties

    # ---- subnets and routes

    def _subnets(self, vpc: str) -> tuple[Subnet, ...]:
        tables = self._associated("AWS::EC2::SubnetRouteTableAssociation", "RouteTableId", "AWS::EC2::RouteTable")
        nacls = self._associated("AWS::EC2::SubnetNetworkAclAssociation", "NetworkAclId", "AWS::EC2::NetworkAcl")
        return tuple(
            Subnet(
                id=address,
                role=self._role(address, tables.get(address)),
                zone=str(properties["AvailabilityZone"]),
                cidr=_canonical(address, properties["CidrBlock"]),
                route_table=tables.get(address, _main(vpc)),
                nacl=nacls.get(address),
            )
            for address, properties in self._of("AWS::EC2::Subnet")
        )

    def _associated(self, kind: str, key: str, other: str) -> dict[str, str]:
        associated: dict[str, str] = {}
        for address, properties in self._of(kind):
            subnet = self._to(properties["SubnetId"], "AWS::EC2::Subnet", of=address)
            if subnet in associated:
                raise Unmodelled(address, f"{subnet} has another {key} already")
            associated[subnet] = self._to(properties[key], other, of=address)
        return associated

    def _role(self, subnet: str, table: str | None) -> str:
        """By what stands in it, and else by whether it leads to the internet gateway."""
        if any(subnet in self._in_group(address) for address, _ in self._of("AWS::RDS::DBSubnetGroup")):
            return "database"
        if any(
            subnet in properties.get("VpcConfig", {}).get("SubnetIds", [])
            for _, properties in self._of("AWS::Lambda::Function")
        ):
            return "private"
        routes = [properties for _, properties in self._of("AWS::EC2::Route") if properties["RouteTableId"] == table]
        gateway = self._attached("InternetGatewayId")
        return (
            "public" if gateway and any(properties.get("GatewayId") == gateway for properties in routes) else "unused"
        )

    def _route_tables(self, vpc: str) -> tuple[RouteTable, ...]:
        written: dict[str, list[Route]] = {_main(vpc): []}
        written |= {address: [] for address, _ in self._of("AWS::EC2::RouteTable")}
        for address, properties in self._of("AWS::EC2::Route"):
            written[self._to(properties["RouteTableId"], "AWS::EC2::RouteTable", of=address)].append(
                Route(id=address, destination=_range(address, properties), target=self._target(address, properties))
            )
        for table, route in [*self._endpoint_routes(), *self._propagated()]:
            written[table].append(route)
        return tuple(RouteTable(id=table, routes=tuple(routes)) for table, routes in written.items())

    def _target(self, address: str, properties: Mapping[str, Any]) -> RouteTarget:
        targets = [key for key in properties if key not in {"RouteTableId", "DestinationCidrBlock"}]
        if len(targets) != 1 or targets[0] not in ROUTE_TARGETS:
            raise Unmodelled(address, f"a route to {targets}")
        if targets == ["NatGatewayId"]:
            return NatTarget(nat=self._to(properties["NatGatewayId"], "AWS::EC2::NatGateway", of=address))
        gateway = str(properties["GatewayId"])
        if gateway not in {self._attached("InternetGatewayId"), self._attached("VpnGatewayId")}:
            if gateway in self.rendered.resources:
                return Blackhole(was=gateway)
            raise Unmodelled(address, f"a route to {gateway}")
        if gateway == self._attached("InternetGatewayId"):
            return InternetGatewayTarget(gateway=gateway)
        return VpnTarget(gateway=gateway)

    def _endpoint_routes(self) -> Iterator[tuple[str, Route]]:
        for endpoint in self._gateway_endpoints():
            for table in self.rendered.resources[endpoint.id]["Properties"].get("RouteTableIds", []):
                for destination in endpoint.ranges:
                    yield (
                        self._to(table, "AWS::EC2::RouteTable", of=endpoint.id),
                        Route(
                            id=endpoint.id,
                            destination=destination,
                            target=GatewayEndpointTarget(endpoint=endpoint.id),
                        ),
                    )

    def _propagated(self) -> Iterator[tuple[str, Route]]:
        vpn = self._vpn()
        for address, properties in self._of("AWS::EC2::VPNGatewayRoutePropagation"):
            if vpn is None or self._to(properties["VpnGatewayId"], "AWS::EC2::VPNGateway", of=address) != vpn.gateway:
                raise Unmodelled(address, "its gateway has no VPN connection to this VPC")
            for table in properties["RouteTableIds"]:
                for destination in vpn.corporate:
                    target = VpnTarget(gateway=vpn.gateway)
                    route = Route(id=address, destination=destination, target=target, propagated=True)
                    yield self._to(table, "AWS::EC2::RouteTable", of=address), route

    def _gateway_endpoints(self) -> tuple[GatewayEndpoint, ...]:
        endpoints = []
        for address, properties in self._endpoints("Gateway"):
            service = _service(properties["ServiceName"])
            if service not in SERVICE_RANGES:
                raise Unmodelled(address, f"the ranges of {service}")
            endpoints.append(GatewayEndpoint(id=address, service=service, ranges=SERVICE_RANGES[service]))
        return tuple(endpoints)

    def _vpn(self) -> Vpn | None:
        """Behind it lie the ranges of its static routes, or with BGP what the parameter CorporateCidr says."""
        gateway = self._attached("VpnGatewayId")
        connections = list(self._of("AWS::EC2::VPNConnection"))
        if gateway is None and not connections:
            return None
        if gateway is None or len(connections) != 1:
            raise Unmodelled("AWS::EC2::VPNConnection", f"{len(connections)} connections and the gateway {gateway}")
        ((connection, properties),) = connections
        if self._to(properties["VpnGatewayId"], "AWS::EC2::VPNGateway", of=connection) != gateway:
            raise Unmodelled(connection, f"it ends at another gateway than {gateway}")
        customer = self._to(properties["CustomerGatewayId"], "AWS::EC2::CustomerGateway", of=connection)
        return Vpn(
            gateway=gateway,
            connection=connection,
            customer_address=IPv4Address(self.rendered.resources[customer]["Properties"]["IpAddress"]),
            corporate=self._corporate(connection, properties),
        )

    def _corporate(self, connection: str, properties: Mapping[str, Any]) -> tuple[IPv4Network, ...]:
        static = tuple(
            _canonical(address, route["DestinationCidrBlock"])
            for address, route in self._of("AWS::EC2::VPNConnectionRoute")
            if self._to(route["VpnConnectionId"], "AWS::EC2::VPNConnection", of=address) == connection
        )
        if _is_true(properties.get("StaticRoutesOnly", False)):
            return static
        corporate = self.rendered.parameters.get("CorporateCidr")
        if not corporate:
            raise Unmodelled(connection, "what the other end announces; CorporateCidr would say")
        return (_canonical(connection, corporate),)

    # ---- filters

    def _security_groups(self) -> tuple[SecurityGroup, ...]:
        return tuple(
            SecurityGroup(
                id=address,
                ingress=tuple(self._rules(address, properties, "Ingress")),
                egress=tuple(self._egress(address, properties)),
            )
            for address, properties in self._of("AWS::EC2::SecurityGroup")
        )

    def _egress(self, group: str, properties: Mapping[str, Any]) -> Iterator[Rule]:
        """A group that states no egress itself keeps the rule to anywhere that EC2 makes, whatever is added to it."""
        if not properties.get("SecurityGroupEgress"):
            yield Rule(id=f"{group} default", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
        yield from self._rules(group, properties, "Egress")

    def _rules(self, group: str, properties: Mapping[str, Any], direction: str) -> Iterator[Rule]:
        for place, rule in enumerate(properties.get(f"SecurityGroup{direction}") or []):
            yield self._rule(f"{group} {direction.lower()} {place}", rule, of=group)
        for address, rule in self._of(f"AWS::EC2::SecurityGroup{direction}"):
            if self._to(rule["GroupId"], "AWS::EC2::SecurityGroup", of=address) == group:
                yield self._rule(address, rule, of=address)

    def _rule(self, name: str, rule: Mapping[str, Any], *, of: str) -> Rule:
        protocol = _protocol(of, rule["IpProtocol"])
        first, last = _ports(of, protocol, rule.get("FromPort"), rule.get("ToPort"))
        return Rule(id=name, protocol=protocol, first_port=first, last_port=last, peer=self._peer(rule, of=of))

    def _peer(self, rule: Mapping[str, Any], *, of: str) -> IPv4Network | str:
        if "CidrIp" in rule:
            return _canonical(of, rule["CidrIp"])
        for key in ("SourceSecurityGroupId", "DestinationSecurityGroupId"):
            if key in rule:
                return self._to(rule[key], "AWS::EC2::SecurityGroup", of=of)
        raise Unmodelled(of, f"the other side of a rule with {sorted(rule)}")

    def _nacls(self) -> tuple[Nacl, ...]:
        return tuple(
            Nacl(
                id=address,
                entries=tuple(
                    sorted(
                        (
                            _nacl_entry(name, entry)
                            for name, entry in self._of("AWS::EC2::NetworkAclEntry")
                            if self._to(entry["NetworkAclId"], "AWS::EC2::NetworkAcl", of=name) == address
                        ),
                        key=lambda entry: (entry.egress, entry.number),
                    )
                ),
            )
            for address, _ in self._of("AWS::EC2::NetworkAcl")
        )

    # ---- the fixed addresses

    def _allocations(self) -> dict[str, tuple[str, ...]]:
        """Every fixed address by its Elastic IP's resource or its given id, with the texts that stand for it."""
        made = {address: (address, f"{address}.PublicIp") for address, _ in self._of("AWS::EC2::EIP")}
        given: dict[str, tuple[str, ...]] = {}
        for _, properties in self._of("AWS::CloudFormation::Stack"):
            parameters = properties.get("Parameters", {})
            for letter in "AB":
                if parameters.get(f"AllocationId{letter}"):
                    given[str(parameters[f"AllocationId{letter}"])] = (str(parameters.get(f"Address{letter}")),)
        return made | given

    def _stand_ins(self) -> dict[str, IPv4Address]:
        """The public address of each allocation: the first zone's is .10, the second's .11."""
        letters: dict[str, str] = {}
        for _, properties in self._of("AWS::CloudFormation::Stack"):
            parameters = properties.get("Parameters", {})
            letters |= {str(parameters.get(f"AllocationId{letter}")): letter for letter in "AB"}
        order = sorted(self._allocations(), key=lambda name: (letters.get(name, name[-1]), name))
        return {name: FIXED + place for place, name in enumerate(order)}

    def _fixed(self, zone: str, allocation: Any, *, of: str) -> NatAddress:
        name = str(allocation).removesuffix(".AllocationId")
        if name not in self._allocations():
            raise Unmodelled(of, f"the address of {allocation}")
        return NatAddress(zone=zone, allocation=name, public_address=self._stand_ins()[name])

    def _nat_gateways(self, subnets: tuple[Subnet, ...]) -> tuple[NatGateway, ...]:
        by_id = {subnet.id: subnet for subnet in subnets}
        return tuple(
            self._nat_gateway(address, properties, by_id) for address, properties in self._of("AWS::EC2::NatGateway")
        )

    def _nat_gateway(self, address: str, properties: Mapping[str, Any], subnets: Mapping[str, Subnet]) -> NatGateway:
        if properties.get("ConnectivityType", "public") != "public":
            raise Unmodelled(address, f"a NAT gateway of the type {properties['ConnectivityType']}")
        if properties.get("AvailabilityMode", "zonal") == "regional":
            return NatGateway(
                id=address, subnet=None, address=None, addresses=tuple(self._regional_addresses(address, properties))
            )
        subnet = subnets[self._to(properties["SubnetId"], "AWS::EC2::Subnet", of=address)]
        if "SecondaryAllocationIds" in properties or "AllocationId" not in properties:
            raise Unmodelled(address, "a zonal NAT gateway with any but one address")
        return NatGateway(
            id=address,
            subnet=subnet.id,
            address=self._next_address(subnet),
            addresses=(self._fixed(subnet.zone, properties["AllocationId"], of=address),),
        )

    def _regional_addresses(self, address: str, properties: Mapping[str, Any]) -> Iterator[NatAddress]:
        zones = properties.get("AvailabilityZoneAddresses")
        if not zones:
            raise Unmodelled(address, "a regional NAT gateway that chooses its own addresses")
        for place in zones:
            if "AvailabilityZone" not in place:
                raise Unmodelled(address, "a zone that is named by its id")
            for allocation in place["AllocationIds"]:
                yield self._fixed(str(place["AvailabilityZone"]), allocation, of=address)

    def _published(self) -> tuple[NatAddress, ...]:
        """What the output EgressAddresses publishes, as zone=address pairs."""
        published = str(self.rendered.outputs.get("EgressAddresses", ""))
        names = {text: allocation for allocation, texts in self._allocations().items() for text in texts}
        addresses = []
        for pair in filter(None, published.split(",")):
            zone, _, text = pair.partition("=")
            if text not in names:
                raise Unmodelled("EgressAddresses", f"the address {text}")
            addresses.append(self._fixed(zone, names[text], of="EgressAddresses"))
        return tuple(addresses)

    # ---- interfaces

    def _next_address(self, subnet: Subnet) -> IPv4Address:
        return subnet.cidr.network_address + next(self.taken.setdefault(subnet.id, count(RESERVED)))

    def _interfaces(self, subnets: tuple[Subnet, ...]) -> Iterator[Interface]:
        by_id = {subnet.id: subnet for subnet in subnets}
        yield from self._functions(by_id)
        yield from self._databases(by_id)
        for address, properties in self._of("AWS::RDS::DBProxy"):
            yield from self._in_each_subnet(
                address,
                InterfaceKind.PROXY,
                properties["VpcSubnetIds"],
                properties.get("VpcSecurityGroupIds"),
                by_id,
                (POSTGRESQL,),
            )
        for address, properties in self._endpoints("Interface"):
            yield from self._in_each_subnet(
                address,
                InterfaceKind.ENDPOINT,
                properties["SubnetIds"],
                properties.get("SecurityGroupIds"),
                by_id,
                (HTTPS,),
            )
        yield from self._bastions(by_id)

    def _functions(self, subnets: Mapping[str, Subnet]) -> Iterator[Interface]:
        for address, properties in self._of("AWS::Lambda::Function"):
            config = properties.get("VpcConfig")
            if config:
                yield from self._in_each_subnet(
                    address, InterfaceKind.FUNCTION, config["SubnetIds"], config.get("SecurityGroupIds"), subnets, ()
                )

    def _in_each_subnet(
        self,
        owner: str,
        kind: InterfaceKind,
        places: list[Any],
        groups: list[Any] | None,
        subnets: Mapping[str, Subnet],
        listens: tuple[int, ...],
    ) -> Iterator[Interface]:
        """One interface in each of the subnets."""
        for place in places:
            subnet = subnets[self._to(place, "AWS::EC2::Subnet", of=owner)]
            yield self._interface(owner, kind, subnet, groups, listens)

    def _interface(
        self,
        owner: str,
        kind: InterfaceKind,
        subnet: Subnet,
        groups: list[Any] | None,
        listens: tuple[int, ...] = (),
        public_address: IPv4Address | None = None,
    ) -> Interface:
        if not groups:
            raise Unmodelled(owner, "it names no security group, so it has the VPC's default one")
        return Interface(
            id=f"{owner}/{subnet.id}",
            owner=owner,
            kind=kind,
            subnet=subnet.id,
            address=self._next_address(subnet),
            security_groups=tuple(self._to(group, "AWS::EC2::SecurityGroup", of=owner) for group in groups),
            public_address=public_address,
            listens=listens,
        )

    def _databases(self, subnets: Mapping[str, Subnet]) -> Iterator[Interface]:
        for place, (address, instance) in enumerate(self._of("AWS::RDS::DBInstance")):
            if "DBClusterIdentifier" not in instance:
                raise Unmodelled(address, "DBClusterIdentifier: an instance without a cluster, with groups of its own")
            cluster = self._to(instance["DBClusterIdentifier"], "AWS::RDS::DBCluster", of=address)
            properties = self.rendered.resources[cluster]["Properties"]
            group = self._in_group(self._to(properties["DBSubnetGroupName"], "AWS::RDS::DBSubnetGroup", of=cluster))
            candidates = [subnets[self._to(name, "AWS::EC2::Subnet", of=address)] for name in group]
            is_public = _is_true(instance.get("PubliclyAccessible", False))
            yield self._interface(
                address,
                InterfaceKind.DATABASE,
                self._chosen(address, instance, candidates, place),
                properties.get("VpcSecurityGroupIds"),
                (int(properties.get("Port", POSTGRESQL)),),
                PUBLIC + place if is_public else None,
            )

    def _chosen(self, address: str, properties: Mapping[str, Any], candidates: list[Subnet], place: int) -> Subnet:
        zone = properties.get("AvailabilityZone")
        fitting = [subnet for subnet in candidates if zone in (None, subnet.zone)]
        if not fitting:
            raise Unmodelled(address, f"it stands in {zone}, and its subnet group does not")
        return fitting[(place + self.first_zone) % len(fitting)]

    def _in_group(self, address: str) -> list[str]:
        return [str(name) for name in self.rendered.resources[address]["Properties"]["SubnetIds"]]

    def _bastions(self, subnets: Mapping[str, Subnet]) -> Iterator[Interface]:
        """Instances, alone or in an Auto Scaling group; the group's may stand in each of its subnets."""
        for address, properties in self._of("AWS::EC2::Instance"):
            launch = self._launch(address, properties.get("LaunchTemplate"))
            yield from self._instance(address, [properties.get("SubnetId")], launch | properties, subnets)
        for address, properties in self._of("AWS::AutoScaling::AutoScalingGroup"):
            launch = self._launch(address, properties.get("LaunchTemplate"))
            yield from self._instance(address, properties["VPCZoneIdentifier"], launch, subnets)

    def _launch(self, address: str, named: Mapping[str, Any] | None) -> dict[str, Any]:
        if not named:
            return {}
        template = self._to(named.get("LaunchTemplateId"), "AWS::EC2::LaunchTemplate", of=address)
        return dict(_Given(template, self.rendered.resources[template]["Properties"])["LaunchTemplateData"])

    def _instance(
        self, address: str, places: list[Any], settings: Mapping[str, Any], subnets: Mapping[str, Subnet]
    ) -> Iterator[Interface]:
        cards = settings.get("NetworkInterfaces", [])
        if len(cards) > 1:
            raise Unmodelled(address, "an instance with several interfaces")
        card = cards[0] if cards else {}
        groups = card.get("GroupSet", card.get("Groups", settings.get("SecurityGroupIds")))
        for number, place in enumerate([card.get("SubnetId", places[0])] if len(places) == 1 else places):
            subnet = subnets[self._to(place, "AWS::EC2::Subnet", of=address)]
            gives = self.rendered.resources[subnet.id]["Properties"].get("MapPublicIpOnLaunch", False)
            is_public = _is_true(card.get("AssociatePublicIpAddress", gives))
            public = PUBLIC + 20 + number if is_public else None
            yield self._interface(address, InterfaceKind.BASTION, subnet, groups, (), public)


# ---- Values


class _Given(dict[str, Any]):
    """The properties of a resource. One that is missing is told with the resource, as is one that is no text."""

    def __init__(self, address: str, properties: Mapping[str, Any]) -> None:
        super().__init__(properties)
        self.address = address

    def __missing__(self, name: str) -> Any:
        raise Unmodelled(self.address, f"{name}: it has none, and a default of AWS's is not read")


def _refuse_unknown(address: str, resource: Mapping[str, Any], ground: set[str]) -> None:
    """Whatever stands in the VPC is read, or refused. `ground` has the addresses of the VPC, its subnets and groups."""
    if resource["Type"] in READ:
        for why in refusals(resource["Type"], resource["Properties"]):
            raise Unmodelled(address, why)
        return
    if resource["Type"] in HARMLESS:
        return
    stands = PLACES & resource["Properties"].keys() or not ground.isdisjoint(_texts(resource["Properties"]))
    if resource["Type"].startswith("AWS::EC2::") or stands:
        raise Unmodelled(address, f"what {resource['Type']} does to the network")


def _texts(value: Any) -> Iterator[str]:
    """Every text in a property, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _canonical(address: str, text: Any) -> IPv4Network:
    """EC2 takes 172.20.5.0/16 for 172.20.0.0/16 (CreateRoute, AuthorizeSecurityGroupIngress, CreateNetworkAclEntry)."""
    try:
        return IPv4Network(text, strict=False)
    except ValueError as error:
        raise Unmodelled(address, f"{text!r} is no IPv4 range") from error


def _main(vpc: str) -> str:
    """The VPC's own table, which a subnet without another uses: nothing but the local route is in it."""
    return f"{vpc} main"


def _range(address: str, properties: Mapping[str, Any]) -> IPv4Network:
    if "DestinationCidrBlock" not in properties:
        raise Unmodelled(address, f"a route for {sorted(properties)}")
    return _canonical(address, properties["DestinationCidrBlock"])


def _protocol(address: str, value: Any) -> Literal["tcp", "udp", "icmp", "any"]:
    if str(value) not in PROTOCOLS:
        raise Unmodelled(address, f"the protocol {value}")
    return PROTOCOLS[str(value)]


def _ports(address: str, protocol: str, first: Any, last: Any) -> tuple[int, int]:
    """All ports where the protocol has none, or none are counted."""
    if protocol == "icmp" and not {str(first), str(last)} <= {"-1", "None"}:
        raise Unmodelled(address, f"a rule for the types of ICMP {first} and {last}: all of them are read, as -1")
    if protocol in {"any", "icmp"}:
        return 0, 65535
    if first is None or last is None:
        raise Unmodelled(address, "a rule without ports")
    return int(first), int(last)


def _nacl_entry(address: str, properties: Mapping[str, Any]) -> NaclEntry:
    if "CidrBlock" not in properties:
        raise Unmodelled(address, "an entry without an IPv4 range")
    protocol = _protocol(address, properties["Protocol"])
    ports = properties.get("Icmp", {}) if protocol == "icmp" else properties.get("PortRange", {})
    if protocol == "icmp":
        ports = {"From": ports.get("Type"), "To": ports.get("Code")}
    first, last = _ports(address, protocol, ports.get("From"), ports.get("To"))
    return NaclEntry(
        id=address,
        number=int(properties["RuleNumber"]),
        egress=_is_true(properties.get("Egress", False)),
        allow=str(properties["RuleAction"]).lower() == "allow",
        protocol=protocol,
        first_port=first,
        last_port=last,
        cidr=_canonical(address, properties["CidrBlock"]),
    )


def _service(name: Any) -> str:
    """com.amazonaws.us-east-1.s3 -> s3; com.amazonaws.us-east-1.execute-api -> execute-api."""
    return str(name).split(".", 3)[-1]


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"
