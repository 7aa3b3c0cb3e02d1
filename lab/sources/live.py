"""A deployed stack as a case: what AWS describes, read as stack/network/model.py has it.

Nothing is repaired and nothing left out in silence: what is missing, or not known here, raises Unmodelled with AWS's
own id. Two things AWS does not tell. Lambda shares one interface among all functions of the same subnet and security
groups, and shows none before the first of them ran: each function gets an address of its own here, the shared one for
the first and free ones of the same subnet for the others. And behind a VPN with BGP lies what the stack's parameter
CorporateCidr says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from lab.model.case import Case
from lab.sources.describing import Item, StackDescription, describe
from stack.network.from_templates import HTTPS, PROTOCOLS, RESERVED, Unmodelled
from stack.network.model import (
    POSTGRESQL,
    Blackhole,
    GatewayEndpoint,
    GatewayEndpointTarget,
    Interface,
    InternetGatewayTarget,
    Kind,
    Nacl,
    NaclEntry,
    NatAddress,
    NatGateway,
    NatTarget,
    Network,
    Route,
    RouteTable,
    Rule,
    SecurityGroup,
    Subnet,
    Target,
    Vpn,
    VpnTarget,
)

_FINAL_DENY = 32767  # the entry that AWS shows as *, which every list ends with
# What a route of AWS may name besides what is read here.
_TARGETS = ("GatewayId", "NatGatewayId")
_OTHER_TARGETS = (
    "CarrierGatewayId",
    "CoreNetworkArn",
    "EgressOnlyInternetGatewayId",
    "InstanceId",
    "LocalGatewayId",
    "NetworkInterfaceId",
    "OdbNetworkArn",
    "TransitGatewayId",
    "VpcPeeringConnectionId",
)
_OF_THE_DATABASE = "RDSNetworkInterface"  # how Amazon RDS describes the interfaces that it makes
_GONE = {"deleted", "deleting", "failed"}


def case(stack: str, *, region: str = "") -> Case:
    """The stack of that name or ARN as it is now. Raises NotDescribed and Unmodelled."""
    return read(describe(stack, region=region))


def read(described: StackDescription) -> Case:
    """The case has the stack's own name, whatever it was asked for by. Raises Unmodelled."""
    reading = _LiveReader(described)
    network = reading.network()
    names = {resource.id: resource.address for resource in described.resources if resource.id}
    places = {
        interface.id: f"{names.get(interface.owner, interface.owner)}/{names.get(interface.subnet, interface.subnet)}"
        for interface in network.interfaces
    }
    parameters = {one["ParameterKey"]: one.get("ParameterValue", "") for one in described.stack.get("Parameters", ())}
    return Case(name=described.stack["StackName"], parameters=parameters, network=network, names=names | places)


@dataclass(slots=True)
class _LiveReader:
    described: StackDescription
    taken: set[IPv4Address] = field(default_factory=set)  # by interfaces that AWS shows, and those made up here
    used: set[str] = field(default_factory=set)  # ids of interfaces that were read

    def network(self) -> Network:
        if not self._parameter("Topology"):
            raise Unmodelled(
                self.described.stack["StackName"], "the parameter Topology: is it a stack of these templates?"
            )
        vpc = self._vpc_item()
        self._refuse_the_unknown()
        self.taken = {IPv4Address(one["PrivateIpAddress"]) for one in self._all("describe_network_interfaces")}
        subnets = tuple(self._subnets())
        interfaces = tuple(self._interfaces({subnet.id: subnet for subnet in subnets}))
        self._refuse_unread_interfaces()
        return Network(
            vpc=vpc["VpcId"],
            cidr=IPv4Network(vpc["CidrBlock"]),
            zones=tuple(sorted({subnet.zone for subnet in subnets})),
            internet_gateway=self._internet_gateway(),
            subnets=subnets,
            route_tables=tuple(self._route_table(item) for item in self._all("describe_route_tables")),
            security_groups=tuple(self._security_groups()),
            nacls=tuple(self._nacl(item) for item in self._all("describe_network_acls")),
            nat_gateways=tuple(self._nat_gateways()),
            gateway_endpoints=tuple(self._gateway_endpoints()),
            vpn=self._vpn(),
            interfaces=interfaces,
            published=tuple(self._published()),
            service_endpoints=tuple(
                (_service(item["ServiceName"]), item["VpcEndpointId"]) for item in self._endpoints("Interface")
            ),
        )

    # ---- finding

    def _all(self, operation: str) -> tuple[Item, ...]:
        return self.described.answers[operation]

    def _parameter(self, name: str) -> str:
        found = {
            one["ParameterKey"]: one.get("ParameterValue", "") for one in self.described.stack.get("Parameters", ())
        }
        return str(found.get(name, ""))

    def _vpc_item(self) -> Item:
        (vpc,) = self._all("describe_vpcs")
        if len([one for one in vpc.get("CidrBlockAssociationSet", ()) if _is(one, "CidrBlockState")]) > 1:
            raise Unmodelled(vpc["VpcId"], "a VPC with more than one IPv4 range")
        if any(_is(one, "Ipv6CidrBlockState") for one in vpc.get("Ipv6CidrBlockAssociationSet", ())):
            raise Unmodelled(vpc["VpcId"], "a VPC with an IPv6 range")
        return vpc

    def _refuse_the_unknown(self) -> None:
        for one in self.described.of_type("AWS::RDS::DBProxy"):
            raise Unmodelled(one.id, "RDS Proxy is not read from a deployed stack")

    def _endpoints(self, kind: str) -> Iterator[Item]:
        for item in self._all("describe_vpc_endpoints"):
            if str(item.get("State", "available")).lower() in _GONE:
                continue
            if item.get("VpcEndpointType", "Gateway") not in {"Gateway", "Interface"}:
                raise Unmodelled(item["VpcEndpointId"], f"an endpoint of the type {item['VpcEndpointType']}")
            if item.get("VpcEndpointType", "Gateway") == kind:
                yield item

    def _internet_gateway(self) -> str | None:
        found = [item["InternetGatewayId"] for item in self._all("describe_internet_gateways")]
        return found[0] if found else None

    # ---- subnets and routes

    def _subnets(self) -> Iterator[Subnet]:
        tables, main = self._associated_tables()
        acls = {
            association["SubnetId"]: acl["NetworkAclId"]
            for acl in self._all("describe_network_acls")
            for association in acl.get("Associations", ())
        }
        for item in self._all("describe_subnets"):
            name = item["SubnetId"]
            if item.get("Ipv6CidrBlockAssociationSet"):
                raise Unmodelled(name, "a subnet with an IPv6 range")
            if name not in acls:
                raise Unmodelled(name, "its network ACL")
            table = tables.get(name, main)
            if table is None:
                raise Unmodelled(name, "its route table, and the VPC's main one")
            yield Subnet(
                id=name,
                role=self._role(name, table),
                zone=item["AvailabilityZone"],
                cidr=IPv4Network(item["CidrBlock"]),
                route_table=table,
                nacl=acls[name],
            )

    def _associated_tables(self) -> tuple[dict[str, str], str | None]:
        """The table of each subnet that has one of its own, and the main one."""
        tables, main = {}, None
        for item in self._all("describe_route_tables"):
            for association in item.get("Associations", ()):
                if association.get("GatewayId"):
                    raise Unmodelled(item["RouteTableId"], "the route table of a gateway")
                if association.get("Main"):
                    main = item["RouteTableId"]
                if association.get("SubnetId"):
                    tables[association["SubnetId"]] = item["RouteTableId"]
        return tables, main

    def _role(self, subnet: str, table: str) -> str:
        """As stack/network/from_templates.py has it: by what stands in it, else by whether it leads to the internet."""
        groups = [item["DBSubnetGroup"]["Subnets"] for item in self._all("describe_db_instances")]
        if any(subnet == one["SubnetIdentifier"] for group in groups for one in group):
            return "database"
        if any(subnet in _vpc_config(item).get("SubnetIds", ()) for item in self.described.functions):
            return "private"
        (ways,) = [item["Routes"] for item in self._all("describe_route_tables") if item["RouteTableId"] == table]
        gateway = self._internet_gateway()
        return "public" if gateway and any(one.get("GatewayId") == gateway for one in ways) else "unused"

    def _route_table(self, item: Item) -> RouteTable:
        name = item["RouteTableId"]
        routes = tuple(route for one in item["Routes"] for route in self._routes(name, one))
        return RouteTable(id=name, routes=routes)

    def _routes(self, table: str, item: Item) -> Iterator[Route]:
        """None for the local route; one for each range of a prefix list."""
        if item.get("GatewayId") == "local":
            return
        if "DestinationPrefixListId" in item:
            ranges = self._ranges_of(table, item["DestinationPrefixListId"])
        elif "DestinationCidrBlock" in item:
            ranges = (IPv4Network(item["DestinationCidrBlock"]),)
        else:
            raise Unmodelled(table, f"a route for {item.get('DestinationIpv6CidrBlock', 'an unknown range')}")
        for cidr in ranges:
            yield Route(
                id=f"{table} {item.get('DestinationPrefixListId', cidr)}",
                destination=cidr,
                target=self._target(table, item),
                propagated=item.get("Origin") == "EnableVgwRoutePropagation",
            )

    def _target(self, table: str, item: Item) -> Target:
        named = [str(item[key]) for key in (*_TARGETS, *_OTHER_TARGETS) if item.get(key)]
        if item.get("State") == "blackhole":
            return Blackhole(was=named[0] if named else "a target that AWS no longer names")
        if len(named) != 1 or any(item.get(key) for key in _OTHER_TARGETS):
            raise Unmodelled(table, f"a route to {', '.join(named) or 'nothing'}")
        (target,) = named
        if target.startswith("nat-"):
            return NatTarget(nat=target)
        if target.startswith("igw-"):
            return InternetGatewayTarget(gateway=target)
        if target.startswith("vgw-"):
            return VpnTarget(gateway=target)
        if target.startswith("vpce-"):
            return GatewayEndpointTarget(endpoint=target)
        raise Unmodelled(table, f"a route to {target}")

    def _ranges_of(self, of: str, prefix_list: str) -> tuple[IPv4Network, ...]:
        for item in self._all("describe_prefix_lists"):
            if item["PrefixListId"] == prefix_list and item.get("Cidrs"):
                return tuple(IPv4Network(cidr) for cidr in item["Cidrs"] if ":" not in cidr)
        raise Unmodelled(of, f"the ranges of the prefix list {prefix_list}")

    def _gateway_endpoints(self) -> Iterator[GatewayEndpoint]:
        for item in self._endpoints("Gateway"):
            lists = [
                one["PrefixListId"]
                for one in self._all("describe_prefix_lists")
                if one["PrefixListName"] == item["ServiceName"]
            ]
            ranges = tuple(cidr for name in lists for cidr in self._ranges_of(item["VpcEndpointId"], name))
            if not ranges:
                raise Unmodelled(item["VpcEndpointId"], f"the ranges of {item['ServiceName']}")
            yield GatewayEndpoint(id=item["VpcEndpointId"], service=_service(item["ServiceName"]), ranges=ranges)

    def _vpn(self) -> Vpn | None:
        gateways = [one["VpnGatewayId"] for one in self._all("describe_vpn_gateways") if one["State"] not in _GONE]
        if not gateways:
            return None
        (gateway,) = gateways
        connections = [
            one
            for one in self._all("describe_vpn_connections")
            if one.get("VpnGatewayId") == gateway and one["State"] not in _GONE
        ]
        if len(connections) != 1:
            raise Unmodelled(gateway, f"{len(connections)} VPN connections, and one is known how to read")
        (connection,) = connections
        customers = {one["CustomerGatewayId"]: one for one in self._all("describe_customer_gateways")}
        customer = customers.get(connection["CustomerGatewayId"])
        if customer is None:
            raise Unmodelled(connection["VpnConnectionId"], "its customer gateway")
        return Vpn(
            gateway=gateway,
            connection=connection["VpnConnectionId"],
            customer_address=IPv4Address(customer["IpAddress"]),
            corporate=self._corporate(connection),
        )

    def _corporate(self, connection: Item) -> tuple[IPv4Network, ...]:
        if connection.get("Options", {}).get("StaticRoutesOnly"):
            return tuple(IPv4Network(one["DestinationCidrBlock"]) for one in connection.get("Routes", ()))
        told = self._parameter("CorporateCidr")
        if not told:
            raise Unmodelled(connection["VpnConnectionId"], "what the other end announces; CorporateCidr would tell")
        return (IPv4Network(told, strict=False),)

    # ---- filters

    def _security_groups(self) -> Iterator[SecurityGroup]:
        rules = [
            (item["GroupId"], item["IsEgress"], self._rule(item)) for item in self._all("describe_security_group_rules")
        ]
        for item in self._all("describe_security_groups"):
            name = item["GroupId"]
            yield SecurityGroup(
                id=name,
                ingress=tuple(rule for group, egress, rule in rules if group == name and not egress),
                egress=tuple(rule for group, egress, rule in rules if group == name and egress),
            )

    def _rule(self, item: Item) -> Rule:
        name = item["SecurityGroupRuleId"]
        first, last = _ports(item.get("FromPort"), item.get("ToPort"))
        if str(item["IpProtocol"]) not in PROTOCOLS:
            raise Unmodelled(name, f"the protocol {item['IpProtocol']}")
        protocol = PROTOCOLS[str(item["IpProtocol"])]
        if protocol in {"any", "icmp"}:
            first, last = 0, 65535
        peer = self._peer(name, item)
        return Rule(id=name, protocol=protocol, first_port=first, last_port=last, peer=peer)

    def _peer(self, name: str, item: Item) -> IPv4Network | str:
        if item.get("CidrIpv4"):
            return IPv4Network(item["CidrIpv4"])
        group = (item.get("ReferencedGroupInfo") or {}).get("GroupId")
        if not group:
            known = [key for key in ("CidrIpv6", "PrefixListId") if item.get(key)]
            raise Unmodelled(name, f"the other side of a rule with {', '.join(known) or 'no range'}")
        if group not in {one["GroupId"] for one in self._all("describe_security_groups")}:
            raise Unmodelled(name, f"the security group {group}, which is not of this VPC")
        return str(group)

    def _nacl(self, item: Item) -> Nacl:
        name = item["NetworkAclId"]
        entries = [self._entry(name, one) for one in item["Entries"] if one["RuleNumber"] < _FINAL_DENY]
        return Nacl(id=name, entries=tuple(sorted(entries, key=lambda entry: (entry.egress, entry.number))))

    def _entry(self, acl: str, item: Item) -> NaclEntry:
        name = f"{acl} {'egress' if item['Egress'] else 'ingress'} {item['RuleNumber']}"
        if "CidrBlock" not in item:
            raise Unmodelled(name, "an entry without an IPv4 range")
        if str(item["Protocol"]) not in PROTOCOLS:
            raise Unmodelled(name, f"the protocol {item['Protocol']}")
        protocol = PROTOCOLS[str(item["Protocol"])]
        ports = item.get("PortRange") or {}
        first, last = (0, 65535) if protocol in {"any", "icmp"} else _ports(ports.get("From"), ports.get("To"))
        return NaclEntry(
            id=name,
            number=item["RuleNumber"],
            egress=item["Egress"],
            allow=item["RuleAction"] == "allow",
            protocol=protocol,
            first_port=first,
            last_port=last,
            cidr=IPv4Network(item["CidrBlock"]),
        )

    # ---- the fixed addresses

    def _nat_gateways(self) -> Iterator[NatGateway]:
        zones = {item["SubnetId"]: item["AvailabilityZone"] for item in self._all("describe_subnets")}
        for item in self._all("describe_nat_gateways"):
            name = item["NatGatewayId"]
            if item["State"] in _GONE:
                continue
            if item["State"] != "available":
                raise Unmodelled(name, f"it is {item['State']}")
            if item.get("ConnectivityType", "public") != "public":
                raise Unmodelled(name, f"a NAT gateway of the type {item['ConnectivityType']}")
            self.used |= {
                one["NetworkInterfaceId"] for one in item["NatGatewayAddresses"] if "NetworkInterfaceId" in one
            }
            if item.get("AvailabilityMode") == "regional":
                addresses = tuple(
                    _nat_address(name, one, one.get("AvailabilityZone")) for one in item["NatGatewayAddresses"]
                )
                yield NatGateway(id=name, subnet=None, address=None, addresses=addresses)
            else:
                yield self._zonal(name, item, zones.get(item["SubnetId"]))

    def _zonal(self, name: str, item: Item, zone: str | None) -> NatGateway:
        found = item["NatGatewayAddresses"]
        if len(found) != 1 or not found[0].get("PrivateIp"):
            raise Unmodelled(name, "a zonal NAT gateway with any but one address")
        return NatGateway(
            id=name,
            subnet=item["SubnetId"],
            address=IPv4Address(found[0]["PrivateIp"]),
            addresses=(_nat_address(name, found[0], zone),),
        )

    def _published(self) -> Iterator[NatAddress]:
        """What the stack's output EgressAddresses tells partners, as zone=address pairs."""
        outputs = {one["OutputKey"]: one["OutputValue"] for one in self.described.stack.get("Outputs", ())}
        allocations = {one["PublicIp"]: one.get("AllocationId", "") for one in self._all("describe_addresses")}
        for pair in filter(None, outputs.get("EgressAddresses", "").split(",")):
            zone, _, address = pair.partition("=")
            if address not in allocations:
                raise Unmodelled("EgressAddresses", f"{address} is no Elastic IP of this account")
            yield NatAddress(zone=zone, allocation=allocations[address], public_address=IPv4Address(address))

    # ---- interfaces

    def _interfaces(self, subnets: Mapping[str, Subnet]) -> Iterator[Interface]:
        for item in self.described.functions:
            yield from self._function(item, subnets)
        yield from self._databases()
        for item in self._endpoints("Interface"):
            for name in item["NetworkInterfaceIds"]:
                yield self._shown(
                    self._by_id(name, of=item["VpcEndpointId"]), item["VpcEndpointId"], Kind.ENDPOINT, HTTPS
                )
        for item in self._all("describe_network_interfaces"):
            instance = (item.get("Attachment") or {}).get("InstanceId")
            if instance and item["NetworkInterfaceId"] not in self.used:
                if item.get("SourceDestCheck") is False:
                    raise Unmodelled(instance, "an instance that passes on what is not for itself")
                yield self._shown(item, instance, Kind.BASTION)

    def _function(self, item: Item, subnets: Mapping[str, Subnet]) -> Iterator[Interface]:
        place, name = _vpc_config(item), item["FunctionName"]
        groups = tuple(place.get("SecurityGroupIds", ()))
        for subnet in place.get("SubnetIds", ()):
            if subnet not in subnets:
                raise Unmodelled(name, f"its subnet {subnet} is not of this VPC")
            yield Interface(
                id=f"{name}/{subnet}",
                owner=name,
                kind=Kind.FUNCTION,
                subnet=subnet,
                address=self._of_lambda(subnet, groups) or self._free(subnets[subnet]),
                security_groups=groups,
            )

    def _of_lambda(self, subnet: str, groups: tuple[str, ...]) -> IPv4Address | None:
        """The address of the interface that functions share, for the first that asks."""
        for item in self._all("describe_network_interfaces"):
            fits = item.get("InterfaceType") == "lambda" and item["SubnetId"] == subnet
            if fits and _groups(item) == set(groups):
                is_new = item["NetworkInterfaceId"] not in self.used
                self.used.add(item["NetworkInterfaceId"])
                return IPv4Address(item["PrivateIpAddress"]) if is_new else None
        return None

    def _free(self, subnet: Subnet) -> IPv4Address:
        for place in range(RESERVED, subnet.cidr.num_addresses - 1):
            address = subnet.cidr[place]
            if address not in self.taken:
                self.taken.add(address)
                return address
        raise Unmodelled(subnet.id, "a free address")

    def _databases(self) -> Iterator[Interface]:
        for item in self._all("describe_db_instances"):
            name = item["DBInstanceIdentifier"]
            groups = {one["VpcSecurityGroupId"] for one in item["VpcSecurityGroups"]}
            shown = [one for one in self._of_rds(item) if _groups(one) == groups]
            if len(shown) != 1:
                raise Unmodelled(
                    name, f"{len(shown)} network interfaces of Amazon RDS fit its zone and groups, not one"
                )
            found = self._shown(shown[0], name, Kind.DATABASE, int(item.get("Endpoint", {}).get("Port", POSTGRESQL)))
            if bool(item.get("PubliclyAccessible")) != (found.public_address is not None):
                raise Unmodelled(name, "whether it has a public address: its interface and the instance disagree")
            yield found

    def _of_rds(self, instance: Item) -> list[Item]:
        """The interfaces of Amazon RDS in the zone of an instance."""
        subnets = {one["SubnetIdentifier"] for one in instance["DBSubnetGroup"]["Subnets"]}
        return [
            one
            for one in self._all("describe_network_interfaces")
            if one.get("Description") == _OF_THE_DATABASE
            and one["SubnetId"] in subnets
            and one["AvailabilityZone"] == instance["AvailabilityZone"]
        ]

    def _shown(self, item: Item, owner: str, kind: Kind, *listens: int) -> Interface:
        self.used.add(item["NetworkInterfaceId"])
        public = (item.get("Association") or {}).get("PublicIp")
        if len(item.get("PrivateIpAddresses", ())) > 1:
            raise Unmodelled(item["NetworkInterfaceId"], "an interface with more than one private address")
        return Interface(
            id=f"{owner}/{item['SubnetId']}",
            owner=owner,
            kind=kind,
            subnet=item["SubnetId"],
            address=IPv4Address(item["PrivateIpAddress"]),
            security_groups=tuple(sorted(_groups(item))),
            public_address=None if public is None else IPv4Address(public),
            listens=listens,
        )

    def _by_id(self, name: str, *, of: str) -> Item:
        for item in self._all("describe_network_interfaces"):
            if item["NetworkInterfaceId"] == name:
                return item
        raise Unmodelled(of, f"its network interface {name}")

    def _refuse_unread_interfaces(self) -> None:
        """NAT gateways' are known by their type; one that is attached to nothing sends and answers nothing."""
        nats = {"nat_gateway", "natGateway"}
        addressed = {
            one.get("NetworkInterfaceId")
            for nat in self._all("describe_nat_gateways")
            for one in nat["NatGatewayAddresses"]
        }
        for item in self._all("describe_network_interfaces"):
            name, kind = item["NetworkInterfaceId"], item.get("InterfaceType", "interface")
            if name in self.used | addressed or kind in nats or item.get("Status") == "available":
                continue
            raise Unmodelled(name, f"whose it is ({kind}: {item.get('Description') or 'no description'})")


# ---- Values


def _nat_address(nat: str, item: Item, zone: str | None) -> NatAddress:
    if zone is None or not item.get("PublicIp"):
        raise Unmodelled(nat, "the zone or the public address of one of its addresses")
    return NatAddress(zone=zone, allocation=item.get("AllocationId", ""), public_address=IPv4Address(item["PublicIp"]))


def _vpc_config(function: Item) -> Item:
    found: Item = function.get("VpcConfig") or {}
    return found


def _groups(interface: Item) -> set[str]:
    return {str(one["GroupId"]) for one in interface.get("Groups", ())}


def _ports(first: Any, last: Any) -> tuple[int, int]:
    """All ports where none are told; AWS writes -1 for that."""
    if first in {None, -1} or last in {None, -1}:
        return 0, 65535
    return int(first), int(last)


def _is(item: Item, key: str) -> bool:
    return bool((item.get(key) or {}).get("State") == "associated")


def _service(name: str) -> str:
    """com.amazonaws.us-east-1.s3 -> s3."""
    return name.split(".", 3)[-1]
