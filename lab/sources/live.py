"""A deployed stack as a case: what AWS describes, read as stack/network/model.py has it.

Nothing is repaired and nothing left out in silence: what is missing, or not known here, raises Unmodelled with AWS's
own id. Two things AWS does not tell. Lambda shares one interface among all functions of the same subnet and security
groups, and shows none before the first of them ran: each function gets an address of its own here, the shared one for
the first and free ones of the same subnet for the others. And behind a VPN with BGP lies what the stack's parameter
CorporateCidr says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from lab.model.case import Case
from lab.sources.description import Description, StackDescription, describe
from lab.sources.differences import differences
from stack.network.from_templates import HARMLESS, HTTPS, PROTOCOLS, READ, RESERVED, Unmodelled, network
from stack.network.model import (
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
from stack.render import render

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
_NO_PEERING = {"deleted", "deleting", "expired", "failed", "rejected"}


# What the answers to an operation tell of the resources of a type: the key with the id, and properties by their names.
_TOLD: tuple[tuple[str, str, str, Mapping[str, str]], ...] = (
    (
        "describe_db_clusters",
        "AWS::RDS::DBCluster",
        "DBClusterIdentifier",
        {"EnableHttpEndpoint": "HttpEndpointEnabled"},
    ),
    (
        "describe_db_instances",
        "AWS::RDS::DBInstance",
        "DBInstanceIdentifier",
        {"PubliclyAccessible": "PubliclyAccessible"},
    ),
)


def case(stack: str, *, region: str = "") -> Case:
    """The stack of that name or ARN as it is now, compared with the templates. Raises NotDescribed and Unmodelled."""
    described = describe(stack, region=region)
    return compared(read(described), described)


def compared(deployed: Case, described: StackDescription) -> Case:
    """With its differences from the network of our templates for its own parameters.

    Where these cannot be rendered for them, as those of another version, the only difference says so.
    """
    zones = deployed.network.zones
    region = zones[0][:-1] if zones else ""
    try:
        meant = network(render(deployed.parameters, region=region))
    except (ValueError, KeyError) as error:
        return replace(deployed, differences=(f"the templates cannot be compared: {error}",))
    found = differences(deployed.network, meant, names=deployed.names, defaults=_defaults(described))
    return replace(deployed, differences=found)


def _defaults(described: StackDescription) -> frozenset[str]:
    """What every VPC has, which no template names."""
    answers = described.answers
    groups = [group["GroupId"] for group in answers["describe_security_groups"] if group.get("GroupName") == "default"]
    acls = [acl["NetworkAclId"] for acl in answers["describe_network_acls"] if acl.get("IsDefault")]
    tables = [
        table["RouteTableId"]
        for table in answers["describe_route_tables"]
        if any(association.get("Main") for association in table.get("Associations", ()))
    ]
    return frozenset((*groups, *acls, *tables))


def read(described: StackDescription) -> Case:
    """The case has the stack's name, even where it was asked for by its ARN. Raises Unmodelled."""
    found = _LiveReader(described).network()
    names = {resource.id: resource.address for resource in described.resources if resource.id}
    places = {
        interface.id: f"{names.get(interface.owner, interface.owner)}/{names.get(interface.subnet, interface.subnet)}"
        for interface in found.interfaces
    }
    parameters = {
        parameter["ParameterKey"]: parameter.get("ParameterValue", "")
        for parameter in described.stack.get("Parameters", ())
    }
    return Case(
        name=described.stack["StackName"],
        parameters=parameters,
        network=found,
        names=names | places,
        deployed=_resources(described),
    )


def _resources(described: StackDescription) -> dict[str, dict[str, Any]]:
    """The types of all resources, and what is described of the database."""
    resources = {
        resource.address: {"Type": resource.type, "Properties": {}, "Id": resource.id}
        for resource in described.resources
    }
    for operation, kind, key, told in _TOLD:
        for answer in described.answers[operation]:
            for resource in resources.values():
                if (resource["Type"], resource["Id"]) == (kind, answer[key]):
                    resource["Properties"] = {name: answer.get(ours, False) for name, ours in told.items()}
    return resources


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
        vpc = self._vpc_description()
        self._refuse_the_unknown()
        self.taken = {
            IPv4Address(interface["PrivateIpAddress"]) for interface in self._all("describe_network_interfaces")
        }
        subnets = tuple(self._subnets())
        interfaces = tuple(self._interfaces({subnet.id: subnet for subnet in subnets}))
        self._refuse_unread_interfaces()
        return Network(
            vpc=vpc["VpcId"],
            cidr=IPv4Network(vpc["CidrBlock"]),
            zones=tuple(sorted({subnet.zone for subnet in subnets})),
            internet_gateway=self._internet_gateway(),
            subnets=subnets,
            route_tables=tuple(self._route_table(description) for description in self._all("describe_route_tables")),
            security_groups=tuple(self._security_groups()),
            nacls=tuple(self._nacl(description) for description in self._all("describe_network_acls")),
            nat_gateways=tuple(self._nat_gateways()),
            gateway_endpoints=tuple(self._gateway_endpoints()),
            vpn=self._vpn(),
            interfaces=interfaces,
            published=tuple(self._published()),
            service_endpoints=tuple(
                (_service(description["ServiceName"]), description["VpcEndpointId"])
                for description in self._endpoints("Interface")
            ),
        )

    # ---- finding

    def _all(self, operation: str) -> tuple[Description, ...]:
        return self.described.answers[operation]

    def _parameter(self, name: str) -> str:
        values = {
            parameter["ParameterKey"]: parameter.get("ParameterValue", "")
            for parameter in self.described.stack.get("Parameters", ())
        }
        return str(values.get(name, ""))

    def _vpc_description(self) -> Description:
        (vpc,) = self._all("describe_vpcs")
        if (
            len(
                [
                    association
                    for association in vpc.get("CidrBlockAssociationSet", ())
                    if _is_associated(association, "CidrBlockState")
                ]
            )
            > 1
        ):
            raise Unmodelled(vpc["VpcId"], "a VPC with more than one IPv4 range")
        if any(
            _is_associated(association, "Ipv6CidrBlockState")
            for association in vpc.get("Ipv6CidrBlockAssociationSet", ())
        ):
            raise Unmodelled(vpc["VpcId"], "a VPC with an IPv6 range")
        return vpc

    def _refuse_the_unknown(self) -> None:
        for proxy in self.described.of_type("AWS::RDS::DBProxy"):
            raise Unmodelled(proxy.id, "RDS Proxy is not read from a deployed stack")
        for resource in self.described.resources:
            if resource.type.startswith("AWS::EC2::") and resource.type not in READ | HARMLESS:
                raise Unmodelled(resource.id, f"what {resource.type} ({resource.address}) does to the network")
        self._refuse_other_names()
        self._refuse_other_networks()

    def _refuse_other_names(self) -> None:
        """https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html: names are found by the resolver."""
        vpc = self._vpc_description()["VpcId"]
        (attributes,) = self._all("describe_vpc_attribute")
        for name in ("enableDnsSupport", "enableDnsHostnames"):
            if not attributes[name]:
                raise Unmodelled(vpc, f"{name}: it is off, and the database and the endpoints are found by name")
        for options in self._all("describe_dhcp_options"):
            for option in options.get("DhcpConfigurations", ()):
                servers = [str(value["Value"]) for value in option["Values"]]
                if option["Key"] == "domain-name-servers" and servers != ["AmazonProvidedDNS"]:
                    raise Unmodelled(options["DhcpOptionsId"], f"other name servers: {', '.join(servers)}")

    def _refuse_other_networks(self) -> None:
        """What connects a VPC without an interface in it, or blocks what its gateway lets pass."""
        for peering in self._all("describe_vpc_peering_connections"):
            if (peering.get("Status") or {}).get("Code") not in _NO_PEERING:
                raise Unmodelled(peering["VpcPeeringConnectionId"], "a peering connection with another VPC")
        for attachment in self._all("describe_transit_gateway_vpc_attachments"):
            if attachment.get("State") not in _GONE:
                raise Unmodelled(attachment["TransitGatewayAttachmentId"], "an attachment to a transit gateway")
        for association in self._all("list_service_network_vpc_associations"):
            name = association.get("arn") or association.get("id")
            raise Unmodelled(str(name), "an association with a service network of VPC Lattice")
        for options in self._all("describe_vpc_block_public_access_options"):
            mode = options.get("InternetGatewayBlockMode", "off")
            if mode != "off":
                raise Unmodelled(self._vpc_description()["VpcId"], f"VPC Block Public Access, which is {mode}")

    def _endpoints(self, kind: str) -> Iterator[Description]:
        for endpoint in self._all("describe_vpc_endpoints"):
            if str(endpoint.get("State", "available")).lower() in _GONE:
                continue
            if endpoint.get("VpcEndpointType", "Gateway") not in {"Gateway", "Interface"}:
                raise Unmodelled(endpoint["VpcEndpointId"], f"an endpoint of the type {endpoint['VpcEndpointType']}")
            if endpoint.get("VpcEndpointType", "Gateway") == kind:
                yield endpoint

    def _internet_gateway(self) -> str | None:
        gateways = [gateway["InternetGatewayId"] for gateway in self._all("describe_internet_gateways")]
        return gateways[0] if gateways else None

    # ---- subnets and routes

    def _subnets(self) -> Iterator[Subnet]:
        tables, main = self._associated_tables()
        acls = {
            association["SubnetId"]: acl["NetworkAclId"]
            for acl in self._all("describe_network_acls")
            for association in acl.get("Associations", ())
        }
        for subnet in self._all("describe_subnets"):
            name = subnet["SubnetId"]
            if subnet.get("Ipv6CidrBlockAssociationSet"):
                raise Unmodelled(name, "a subnet with an IPv6 range")
            if name not in acls:
                raise Unmodelled(name, "its network ACL")
            table = tables.get(name, main)
            if table is None:
                raise Unmodelled(name, "its route table, and the VPC's main one")
            yield Subnet(
                id=name,
                role=self._role(name, table),
                zone=subnet["AvailabilityZone"],
                cidr=IPv4Network(subnet["CidrBlock"]),
                route_table=table,
                nacl=acls[name],
            )

    def _associated_tables(self) -> tuple[dict[str, str], str | None]:
        """The table of each subnet that has one of its own, and the main one."""
        tables, main = {}, None
        for table in self._all("describe_route_tables"):
            for association in table.get("Associations", ()):
                if association.get("GatewayId"):
                    raise Unmodelled(table["RouteTableId"], "the route table of a gateway")
                if association.get("Main"):
                    main = table["RouteTableId"]
                if association.get("SubnetId"):
                    tables[association["SubnetId"]] = table["RouteTableId"]
        return tables, main

    def _role(self, subnet: str, table: str) -> str:
        """As stack/network/from_templates.py has it: by what is in it, else by its route to the internet."""
        groups = [description["DBSubnetGroup"]["Subnets"] for description in self._all("describe_db_instances")]
        if any(subnet == member["SubnetIdentifier"] for group in groups for member in group):
            return "database"
        if any(subnet in _vpc_config(description).get("SubnetIds", ()) for description in self.described.functions):
            return "private"
        (routes,) = [
            description["Routes"]
            for description in self._all("describe_route_tables")
            if description["RouteTableId"] == table
        ]
        gateway = self._internet_gateway()
        return "public" if gateway and any(route.get("GatewayId") == gateway for route in routes) else "unused"

    def _route_table(self, table: Description) -> RouteTable:
        name = table["RouteTableId"]
        routes = tuple(route for described in table["Routes"] for route in self._routes(name, described))
        return RouteTable(id=name, routes=routes)

    def _routes(self, table: str, route: Description) -> Iterator[Route]:
        """None for the local route; one for each range of a prefix list."""
        if route.get("GatewayId") == "local":
            return
        if "DestinationPrefixListId" in route:
            ranges = self._ranges_of(table, route["DestinationPrefixListId"])
        elif "DestinationCidrBlock" in route:
            ranges = (IPv4Network(route["DestinationCidrBlock"]),)
        else:
            raise Unmodelled(table, f"a route for {route.get('DestinationIpv6CidrBlock', 'an unknown range')}")
        for cidr in ranges:
            yield Route(
                id=f"{table} {route.get('DestinationPrefixListId', cidr)}",
                destination=cidr,
                target=self._target(table, route),
                propagated=route.get("Origin") == "EnableVgwRoutePropagation",
            )

    def _target(self, table: str, route: Description) -> RouteTarget:
        named = [str(route[key]) for key in (*_TARGETS, *_OTHER_TARGETS) if route.get(key)]
        if route.get("State") == "blackhole":
            return Blackhole(was=named[0] if named else "a target that AWS no longer names")
        if len(named) != 1 or any(route.get(key) for key in _OTHER_TARGETS):
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
        for described in self._all("describe_prefix_lists"):
            if described["PrefixListId"] == prefix_list and described.get("Cidrs"):
                return tuple(IPv4Network(cidr) for cidr in described["Cidrs"] if ":" not in cidr)
        raise Unmodelled(of, f"the ranges of the prefix list {prefix_list}")

    def _gateway_endpoints(self) -> Iterator[GatewayEndpoint]:
        for endpoint in self._endpoints("Gateway"):
            lists = [
                prefix_list["PrefixListId"]
                for prefix_list in self._all("describe_prefix_lists")
                if prefix_list["PrefixListName"] == endpoint["ServiceName"]
            ]
            ranges = tuple(cidr for name in lists for cidr in self._ranges_of(endpoint["VpcEndpointId"], name))
            if not ranges:
                raise Unmodelled(endpoint["VpcEndpointId"], f"the ranges of {endpoint['ServiceName']}")
            yield GatewayEndpoint(
                id=endpoint["VpcEndpointId"], service=_service(endpoint["ServiceName"]), ranges=ranges
            )

    def _vpn(self) -> Vpn | None:
        gateways = [
            described["VpnGatewayId"]
            for described in self._all("describe_vpn_gateways")
            if described["State"] not in _GONE
        ]
        if not gateways:
            return None
        (gateway,) = gateways
        connections = [
            described
            for described in self._all("describe_vpn_connections")
            if described.get("VpnGatewayId") == gateway and described["State"] not in _GONE
        ]
        if len(connections) != 1:
            raise Unmodelled(gateway, f"{len(connections)} VPN connections, and one is known how to read")
        (connection,) = connections
        customers = {described["CustomerGatewayId"]: described for described in self._all("describe_customer_gateways")}
        customer = customers.get(connection["CustomerGatewayId"])
        if customer is None:
            raise Unmodelled(connection["VpnConnectionId"], "its customer gateway")
        return Vpn(
            gateway=gateway,
            connection=connection["VpnConnectionId"],
            customer_address=IPv4Address(customer["IpAddress"]),
            corporate=self._corporate(connection),
        )

    def _corporate(self, connection: Description) -> tuple[IPv4Network, ...]:
        if connection.get("Options", {}).get("StaticRoutesOnly"):
            return tuple(IPv4Network(route["DestinationCidrBlock"]) for route in connection.get("Routes", ()))
        announced = self._parameter("CorporateCidr")
        if not announced:
            raise Unmodelled(connection["VpnConnectionId"], "what the other end announces; CorporateCidr would tell")
        return (IPv4Network(announced, strict=False),)

    # ---- filters

    def _security_groups(self) -> Iterator[SecurityGroup]:
        rules = [
            (described["GroupId"], described["IsEgress"], self._rule(described))
            for described in self._all("describe_security_group_rules")
        ]
        for described in self._all("describe_security_groups"):
            name = described["GroupId"]
            yield SecurityGroup(
                id=name,
                ingress=tuple(rule for group, egress, rule in rules if group == name and not egress),
                egress=tuple(rule for group, egress, rule in rules if group == name and egress),
            )

    def _rule(self, rule: Description) -> Rule:
        name = rule["SecurityGroupRuleId"]
        first, last = _ports(rule.get("FromPort"), rule.get("ToPort"))
        if str(rule["IpProtocol"]) not in PROTOCOLS:
            raise Unmodelled(name, f"the protocol {rule['IpProtocol']}")
        protocol = PROTOCOLS[str(rule["IpProtocol"])]
        if protocol in {"any", "icmp"}:
            first, last = 0, 65535
        peer = self._peer(name, rule)
        return Rule(id=name, protocol=protocol, first_port=first, last_port=last, peer=peer)

    def _peer(self, name: str, rule: Description) -> IPv4Network | str:
        if rule.get("CidrIpv4"):
            return IPv4Network(rule["CidrIpv4"])
        group = (rule.get("ReferencedGroupInfo") or {}).get("GroupId")
        if not group:
            known = [key for key in ("CidrIpv6", "PrefixListId") if rule.get(key)]
            raise Unmodelled(name, f"the other side of a rule with {', '.join(known) or 'no range'}")
        if group not in {described["GroupId"] for described in self._all("describe_security_groups")}:
            raise Unmodelled(name, f"the security group {group}, which is not of this VPC")
        return str(group)

    def _nacl(self, nacl: Description) -> Nacl:
        name = nacl["NetworkAclId"]
        entries = [self._entry(name, entry) for entry in nacl["Entries"] if entry["RuleNumber"] < _FINAL_DENY]
        return Nacl(id=name, entries=tuple(sorted(entries, key=lambda entry: (entry.egress, entry.number))))

    def _entry(self, acl: str, entry: Description) -> NaclEntry:
        name = f"{acl} {'egress' if entry['Egress'] else 'ingress'} {entry['RuleNumber']}"
        if "CidrBlock" not in entry:
            raise Unmodelled(name, "an entry without an IPv4 range")
        if str(entry["Protocol"]) not in PROTOCOLS:
            raise Unmodelled(name, f"the protocol {entry['Protocol']}")
        protocol = PROTOCOLS[str(entry["Protocol"])]
        ports = entry.get("PortRange") or {}
        first, last = (0, 65535) if protocol in {"any", "icmp"} else _ports(ports.get("From"), ports.get("To"))
        return NaclEntry(
            id=name,
            number=entry["RuleNumber"],
            egress=entry["Egress"],
            allow=entry["RuleAction"] == "allow",
            protocol=protocol,
            first_port=first,
            last_port=last,
            cidr=IPv4Network(entry["CidrBlock"]),
        )

    # ---- the fixed addresses

    def _nat_gateways(self) -> Iterator[NatGateway]:
        zones = {nat["SubnetId"]: nat["AvailabilityZone"] for nat in self._all("describe_subnets")}
        for nat in self._all("describe_nat_gateways"):
            name = nat["NatGatewayId"]
            if nat["State"] in _GONE:
                continue
            if nat["State"] != "available":
                raise Unmodelled(name, f"it is {nat['State']}")
            if nat.get("ConnectivityType", "public") != "public":
                raise Unmodelled(name, f"a NAT gateway of the type {nat['ConnectivityType']}")
            self.used |= {
                address["NetworkInterfaceId"]
                for address in nat["NatGatewayAddresses"]
                if "NetworkInterfaceId" in address
            }
            if nat.get("AvailabilityMode") == "regional":
                addresses = tuple(
                    _nat_address(name, address, address.get("AvailabilityZone"))
                    for address in nat["NatGatewayAddresses"]
                )
                yield NatGateway(id=name, subnet=None, address=None, addresses=addresses)
            else:
                yield self._zonal(name, nat, zones.get(nat["SubnetId"]))

    def _zonal(self, name: str, nat: Description, zone: str | None) -> NatGateway:
        addresses = nat["NatGatewayAddresses"]
        if len(addresses) != 1 or not addresses[0].get("PrivateIp"):
            raise Unmodelled(name, "a zonal NAT gateway with any but one address")
        return NatGateway(
            id=name,
            subnet=nat["SubnetId"],
            address=IPv4Address(addresses[0]["PrivateIp"]),
            addresses=(_nat_address(name, addresses[0], zone),),
        )

    def _published(self) -> Iterator[NatAddress]:
        """The stack's output EgressAddresses, which is zone=address pairs."""
        outputs = {output["OutputKey"]: output["OutputValue"] for output in self.described.stack.get("Outputs", ())}
        allocations = {output["PublicIp"]: output.get("AllocationId", "") for output in self._all("describe_addresses")}
        for pair in filter(None, outputs.get("EgressAddresses", "").split(",")):
            zone, _, address = pair.partition("=")
            if address not in allocations:
                raise Unmodelled("EgressAddresses", f"{address} is no Elastic IP of this account")
            yield NatAddress(zone=zone, allocation=allocations[address], public_address=IPv4Address(address))

    # ---- interfaces

    def _interfaces(self, subnets: Mapping[str, Subnet]) -> Iterator[Interface]:
        for described in self.described.functions:
            yield from self._function(described, subnets)
        yield from self._databases()
        for described in self._endpoints("Interface"):
            for name in described["NetworkInterfaceIds"]:
                yield self._read_interface(
                    self._by_id(name, of=described["VpcEndpointId"]),
                    described["VpcEndpointId"],
                    InterfaceKind.ENDPOINT,
                    HTTPS,
                )
        for described in self._all("describe_network_interfaces"):
            instance = (described.get("Attachment") or {}).get("InstanceId")
            if instance and described["NetworkInterfaceId"] not in self.used:
                if described.get("SourceDestCheck") is False:
                    raise Unmodelled(instance, "an instance that passes on what is not for itself")
                yield self._read_interface(described, instance, InterfaceKind.BASTION)

    def _function(self, function: Description, subnets: Mapping[str, Subnet]) -> Iterator[Interface]:
        place, name = _vpc_config(function), function["FunctionName"]
        groups = tuple(place.get("SecurityGroupIds", ()))
        for subnet in place.get("SubnetIds", ()):
            if subnet not in subnets:
                raise Unmodelled(name, f"its subnet {subnet} is not of this VPC")
            yield Interface(
                id=f"{name}/{subnet}",
                owner=name,
                kind=InterfaceKind.FUNCTION,
                subnet=subnet,
                address=self._of_lambda(subnet, groups) or self._free(subnets[subnet]),
                security_groups=groups,
            )

    def _of_lambda(self, subnet: str, groups: tuple[str, ...]) -> IPv4Address | None:
        """The address of the interface that functions share, for the first that asks."""
        for interface in self._all("describe_network_interfaces"):
            fits = interface.get("InterfaceType") == "lambda" and interface["SubnetId"] == subnet
            if fits and _groups(interface) == set(groups):
                is_new = interface["NetworkInterfaceId"] not in self.used
                self.used.add(interface["NetworkInterfaceId"])
                return IPv4Address(interface["PrivateIpAddress"]) if is_new else None
        return None

    def _free(self, subnet: Subnet) -> IPv4Address:
        for place in range(RESERVED, subnet.cidr.num_addresses - 1):
            address = subnet.cidr[place]
            if address not in self.taken:
                self.taken.add(address)
                return address
        raise Unmodelled(subnet.id, "a free address")

    def _databases(self) -> Iterator[Interface]:
        for instance in self._all("describe_db_instances"):
            name = instance["DBInstanceIdentifier"]
            groups = {interface["VpcSecurityGroupId"] for interface in instance["VpcSecurityGroups"]}
            shown = [interface for interface in self._of_rds(instance) if _groups(interface) == groups]
            if len(shown) != 1:
                raise Unmodelled(
                    name, f"{len(shown)} network interfaces of Amazon RDS fit its zone and groups, not one"
                )
            interface = self._read_interface(
                shown[0], name, InterfaceKind.DATABASE, int(instance.get("Endpoint", {}).get("Port", POSTGRESQL))
            )
            if bool(instance.get("PubliclyAccessible")) != (interface.public_address is not None):
                raise Unmodelled(name, "whether it has a public address: its interface and the instance disagree")
            yield interface

    def _of_rds(self, instance: Description) -> list[Description]:
        """The interfaces of Amazon RDS in the zone of an instance."""
        subnets = {interface["SubnetIdentifier"] for interface in instance["DBSubnetGroup"]["Subnets"]}
        return [
            interface
            for interface in self._all("describe_network_interfaces")
            if interface.get("Description") == _OF_THE_DATABASE
            and interface["SubnetId"] in subnets
            and interface["AvailabilityZone"] == instance["AvailabilityZone"]
        ]

    def _read_interface(self, interface: Description, owner: str, kind: InterfaceKind, *listens: int) -> Interface:
        self.used.add(interface["NetworkInterfaceId"])
        public = (interface.get("Association") or {}).get("PublicIp")
        if len(interface.get("PrivateIpAddresses", ())) > 1:
            raise Unmodelled(interface["NetworkInterfaceId"], "an interface with more than one private address")
        return Interface(
            id=f"{owner}/{interface['SubnetId']}",
            owner=owner,
            kind=kind,
            subnet=interface["SubnetId"],
            address=IPv4Address(interface["PrivateIpAddress"]),
            security_groups=tuple(sorted(_groups(interface))),
            public_address=None if public is None else IPv4Address(public),
            listens=listens,
        )

    def _by_id(self, name: str, *, of: str) -> Description:
        for interface in self._all("describe_network_interfaces"):
            if interface["NetworkInterfaceId"] == name:
                return interface
        raise Unmodelled(of, f"its network interface {name}")

    def _refuse_unread_interfaces(self) -> None:
        """NAT gateways' are known by their type; one that is attached to nothing sends and answers nothing."""
        nats = {"nat_gateway", "natGateway"}
        addressed = {
            address.get("NetworkInterfaceId")
            for nat in self._all("describe_nat_gateways")
            for address in nat["NatGatewayAddresses"]
        }
        for interface in self._all("describe_network_interfaces"):
            name, kind = interface["NetworkInterfaceId"], interface.get("InterfaceType", "interface")
            if name in self.used | addressed or kind in nats or interface.get("Status") == "available":
                continue
            raise Unmodelled(name, f"whose it is ({kind}: {interface.get('Description') or 'no description'})")


# ---- Values


def _nat_address(nat: str, address: Description, zone: str | None) -> NatAddress:
    if zone is None or not address.get("PublicIp"):
        raise Unmodelled(nat, "the zone or the public address of one of its addresses")
    return NatAddress(
        zone=zone, allocation=address.get("AllocationId", ""), public_address=IPv4Address(address["PublicIp"])
    )


def _vpc_config(function: Description) -> Description:
    configuration: Description = function.get("VpcConfig") or {}
    return configuration


def _groups(interface: Description) -> set[str]:
    return {str(group["GroupId"]) for group in interface.get("Groups", ())}


def _ports(first: Any, last: Any) -> tuple[int, int]:
    """All ports where none are given, for which AWS also writes -1."""
    if first in {None, -1} or last in {None, -1}:
        return 0, 65535
    return int(first), int(last)


def _is_associated(association: Description, key: str) -> bool:
    return bool((association.get(key) or {}).get("State") == "associated")


def _service(name: str) -> str:
    """com.amazonaws.us-east-1.s3 -> s3."""
    return name.split(".", 3)[-1]
