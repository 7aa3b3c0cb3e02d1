"""Templates are read as the network that they would make, and what cannot be read is refused."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

import pytest

from stack.network.from_templates import Unmodelled, network
from stack.network.model import (
    ANYWHERE,
    Blackhole,
    GatewayEndpointTarget,
    Interface,
    InterfaceKind,
    InternetGatewayTarget,
    NatTarget,
    Network,
    Route,
    VpnTarget,
)
from stack.render import render

ZONES = ("us-east-1a", "us-east-1b")
TEMPLATE = """
Parameters:
  CorporateCidr: {Type: String, Default: 172.20.0.0/16}
  PubliclyAccessible: {Type: String, Default: 'false'}
Resources:
  Vpc: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.0.0.0/16, EnableDnsHostnames: true}}
  Gateway: {Type: 'AWS::EC2::InternetGateway'}
  GatewayAttachment:
    Type: AWS::EC2::VPCGatewayAttachment
    Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Gateway}
  Public:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: !Ref Vpc, AvailabilityZone: us-east-1a, CidrBlock: 10.0.0.0/24}
  Private:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: !Ref Vpc, AvailabilityZone: us-east-1a, CidrBlock: 10.0.4.0/24}
  DataA: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, AvailabilityZone: us-east-1a, CidrBlock: 10.0.8.0/24}}
  DataB: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, AvailabilityZone: us-east-1b, CidrBlock: 10.0.9.0/24}}
  PublicTable: {Type: 'AWS::EC2::RouteTable', Properties: {VpcId: !Ref Vpc}}
  PrivateTable: {Type: 'AWS::EC2::RouteTable', Properties: {VpcId: !Ref Vpc}}
  PublicOfTable:
    Type: AWS::EC2::SubnetRouteTableAssociation
    Properties: {SubnetId: !Ref Public, RouteTableId: !Ref PublicTable}
  PrivateOfTable:
    Type: AWS::EC2::SubnetRouteTableAssociation
    Properties: {SubnetId: !Ref Private, RouteTableId: !Ref PrivateTable}
  PublicRoute:
    Type: AWS::EC2::Route
    Properties: {RouteTableId: !Ref PublicTable, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Gateway}
  PrivateRoute:
    Type: AWS::EC2::Route
    Properties: {RouteTableId: !Ref PrivateTable, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref Nat}
  Address: {Type: 'AWS::EC2::EIP', Properties: {Domain: vpc}}
  Nat: {Type: 'AWS::EC2::NatGateway', Properties: {SubnetId: !Ref Public, AllocationId: !GetAtt Address.AllocationId}}
  Storage:
    Type: AWS::EC2::VPCEndpoint
    Properties: {VpcId: !Ref Vpc, ServiceName: com.amazonaws.us-east-1.s3, RouteTableIds: [!Ref PrivateTable]}
  Queues:
    Type: AWS::EC2::VPCEndpoint
    Properties:
      PrivateDnsEnabled: true
      VpcEndpointType: Interface
      VpcId: !Ref Vpc
      ServiceName: com.amazonaws.us-east-1.sqs
      SubnetIds: [!Ref Private]
      SecurityGroupIds: [!GetAtt Plain.GroupId]
  VpnGateway: {Type: 'AWS::EC2::VPNGateway', Properties: {Type: ipsec.1}}
  VpnAttachment:
    Type: AWS::EC2::VPCGatewayAttachment
    Properties: {VpcId: !Ref Vpc, VpnGatewayId: !Ref VpnGateway}
  Customer: {Type: 'AWS::EC2::CustomerGateway', Properties: {BgpAsn: 65000, IpAddress: 198.51.100.7, Type: ipsec.1}}
  Connection:
    Type: AWS::EC2::VPNConnection
    Properties: {CustomerGatewayId: !Ref Customer, VpnGatewayId: !Ref VpnGateway, StaticRoutesOnly: false}
  Propagation:
    Type: AWS::EC2::VPNGatewayRoutePropagation
    Properties: {VpnGatewayId: !Ref VpnGateway, RouteTableIds: [!Ref PrivateTable]}
  Plain:
    Type: AWS::EC2::SecurityGroup
    Properties:
      VpcId: !Ref Vpc
      SecurityGroupIngress: [{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 10.0.0.0/16}]
  Database: {Type: 'AWS::EC2::SecurityGroup', Properties: {VpcId: !Ref Vpc, SecurityGroupEgress: [
    {IpProtocol: '-1', CidrIp: 127.0.0.1/32}]}}
  DatabaseFromPlain:
    Type: AWS::EC2::SecurityGroupIngress
    Properties:
      GroupId: !GetAtt Database.GroupId
      SourceSecurityGroupId: !Ref Plain
      IpProtocol: tcp
      FromPort: 5432
      ToPort: 5432
  Filter: {Type: 'AWS::EC2::NetworkAcl', Properties: {VpcId: !Ref Vpc}}
  FilterIn:
    Type: AWS::EC2::NetworkAclEntry
    Properties:
      NetworkAclId: !Ref Filter
      RuleNumber: 100
      Protocol: 6
      RuleAction: allow
      CidrBlock: 10.0.4.0/24
      PortRange: {From: 5432, To: 5432}
  FilterOut:
    Type: AWS::EC2::NetworkAclEntry
    Properties:
      {NetworkAclId: !Ref Filter, RuleNumber: 90, Protocol: -1, RuleAction: deny, Egress: true, CidrBlock: 0.0.0.0/0}
  DataOfFilter:
    Type: AWS::EC2::SubnetNetworkAclAssociation
    Properties: {SubnetId: !Ref DataA, NetworkAclId: !Ref Filter}
  Function:
    Type: AWS::Lambda::Function
    Properties: {VpcConfig: {SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Plain]}}
  Outside: {Type: 'AWS::Lambda::Function'}
  Group: {Type: 'AWS::RDS::DBSubnetGroup', Properties: {SubnetIds: [!Ref DataA, !Ref DataB]}}
  Cluster:
    Type: AWS::RDS::DBCluster
    Properties: {DBSubnetGroupName: !Ref Group, VpcSecurityGroupIds: [!Ref Database]}
  Writer:
    Type: AWS::RDS::DBInstance
    Properties: {DBClusterIdentifier: !Ref Cluster, PubliclyAccessible: !Ref PubliclyAccessible}
  Reader: {Type: 'AWS::RDS::DBInstance', Properties: {DBClusterIdentifier: !Ref Cluster}}
  Proxy:
    Type: AWS::RDS::DBProxy
    Properties: {VpcSubnetIds: [!Ref Private], VpcSecurityGroupIds: [!Ref Database]}
  Bastion: {Type: 'AWS::EC2::Instance', Properties: {SubnetId: !Ref Private, SecurityGroupIds: [!Ref Plain]}}
Outputs:
  EgressAddresses: {Value: !Sub 'us-east-1a=${Address.PublicIp},us-east-1b=${Address}'}
"""


def read(old: str = "", new: str = "", *, parameters: Mapping[str, str] | None = None, first_zone: int = 0) -> Network:
    """The template's network, with `new` in the place of `old`."""
    assert old in TEMPLATE
    text = TEMPLATE.replace(old, new, 1) if old else TEMPLATE
    return network(render(parameters, texts={"template.yaml": text}), first_zone=first_zone)


def routes(vpc: Network, table: str) -> list[Route]:
    return [route for candidate in vpc.route_tables if candidate.id == table for route in candidate.routes]


def interfaces(vpc: Network, owner: str) -> list[Interface]:
    return [interface for interface in vpc.interfaces if interface.owner == owner]


def test_subnets_have_their_roles_tables_and_filters() -> None:
    vpc = read()
    assert (vpc.vpc, vpc.cidr, vpc.zones) == ("Vpc", IPv4Network("10.0.0.0/16"), ZONES)
    assert {subnet.id: (subnet.role, subnet.route_table, subnet.nacl) for subnet in vpc.subnets} == {
        "Public": ("public", "PublicTable", None),
        "Private": ("private", "PrivateTable", None),
        "DataA": ("database", "Vpc main", "Filter"),
        "DataB": ("database", "Vpc main", None),
    }


def test_routes_lead_to_gateways_endpoints_and_the_vpn() -> None:
    vpc = read()
    assert routes(vpc, "Vpc main") == []
    assert [route.target for route in routes(vpc, "PublicTable")] == [InternetGatewayTarget(gateway="Gateway")]
    default, *others = routes(vpc, "PrivateTable")
    assert (default.destination, default.target) == (ANYWHERE, NatTarget(nat="Nat"))
    assert {route.target for route in others if not route.propagated} == {GatewayEndpointTarget(endpoint="Storage")}
    (learnt,) = [route for route in others if route.propagated]
    assert (learnt.destination, learnt.target) == (IPv4Network("172.20.0.0/16"), VpnTarget(gateway="VpnGateway"))


def test_a_route_to_a_gateway_that_is_not_attached_ends_there() -> None:
    unattached = read(
        """  GatewayAttachment:
    Type: AWS::EC2::VPCGatewayAttachment
    Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Gateway}
""",
        "",
    )
    assert unattached.internet_gateway is None
    assert [route.target for route in routes(unattached, "PublicTable")] == [Blackhole(was="Gateway")]


def test_static_routes_tell_what_lies_behind_the_vpn() -> None:
    vpc = read(
        "StaticRoutesOnly: false}\n",
        "StaticRoutesOnly: true}\n  Static: {Type: 'AWS::EC2::VPNConnectionRoute', Properties: "
        "{VpnConnectionId: !Ref Connection, DestinationCidrBlock: 192.168.0.0/16}}\n",
    )
    assert vpc.vpn is not None
    assert vpc.vpn.corporate == (IPv4Network("192.168.0.0/16"),)
    assert vpc.vpn.customer_address == IPv4Address("198.51.100.7")


def test_security_groups_keep_the_egress_that_ec2_adds() -> None:
    plain, database = read().security_groups
    assert [(rule.protocol, rule.peer) for rule in plain.egress] == [("any", ANYWHERE)]
    assert [(rule.first_port, rule.peer) for rule in plain.ingress] == [(443, IPv4Network("10.0.0.0/16"))]
    assert [(rule.id, rule.first_port, rule.peer) for rule in database.ingress] == [
        ("DatabaseFromPlain", 5432, "Plain")
    ]
    assert [rule.peer for rule in database.egress] == [IPv4Network("127.0.0.1/32")]


def test_filters_are_in_the_order_of_their_numbers() -> None:
    (nacl,) = read().nacls
    assert [(entry.egress, entry.number, entry.allow, entry.protocol, entry.first_port) for entry in nacl.entries] == [
        (False, 100, True, "tcp", 5432),
        (True, 90, False, "any", 0),
    ]


def test_everything_in_a_subnet_has_an_address_of_its_own() -> None:
    vpc = read()
    addresses = [interface.address for interface in vpc.interfaces] + [nat.address for nat in vpc.nat_gateways]
    assert len(set(addresses)) == len(addresses)
    assert {interface.owner: interface.kind for interface in vpc.interfaces} == {
        "Function": InterfaceKind.FUNCTION,
        "Writer": InterfaceKind.DATABASE,
        "Reader": InterfaceKind.DATABASE,
        "Proxy": InterfaceKind.PROXY,
        "Queues": InterfaceKind.ENDPOINT,
        "Bastion": InterfaceKind.BASTION,
    }
    assert vpc.service_endpoints == (("sqs", "Queues"),)
    places = {subnet.id: subnet.cidr for subnet in vpc.subnets}
    assert all(interface.address in places[interface.subnet] for interface in vpc.interfaces)


def test_instances_of_the_database_stand_in_different_zones_either_way_round() -> None:
    assert [interface.subnet for interface in read().interfaces if interface.kind is InterfaceKind.DATABASE] == [
        "DataA",
        "DataB",
    ]
    assert [
        interface.subnet for interface in read(first_zone=1).interfaces if interface.kind is InterfaceKind.DATABASE
    ] == [
        "DataB",
        "DataA",
    ]


def test_only_a_public_instance_has_a_public_address() -> None:
    (private,) = interfaces(read(), "Writer")
    (public,) = interfaces(read(parameters={"PubliclyAccessible": "true"}), "Writer")
    assert (private.public_address, public.public_address) == (None, IPv4Address("203.0.113.200"))


def test_a_bastion_in_a_subnet_that_hands_out_addresses_is_public() -> None:
    (public,) = interfaces(
        read("CidrBlock: 10.0.4.0/24", "CidrBlock: 10.0.4.0/24, MapPublicIpOnLaunch: true"), "Bastion"
    )
    assert public.public_address


def test_a_zonal_nat_gateway_has_its_zones_address_and_both_zones_are_told_it() -> None:
    vpc = read()
    (nat,) = vpc.nat_gateways
    assert nat.subnet == "Public"
    assert [(address.zone, address.allocation, str(address.public_address)) for address in nat.addresses] == [
        (ZONES[0], "Address", "203.0.113.10")
    ]
    assert [(address.zone, str(address.public_address)) for address in vpc.published] == [
        (ZONES[0], "203.0.113.10"),
        (ZONES[1], "203.0.113.10"),
    ]


def test_a_regional_nat_gateway_has_the_addresses_of_its_zones() -> None:
    vpc = read(
        "{SubnetId: !Ref Public, AllocationId: !GetAtt Address.AllocationId}",
        "{AvailabilityMode: regional, VpcId: !Ref Vpc, AvailabilityZoneAddresses: "
        "[{AvailabilityZone: us-east-1a, AllocationIds: [!GetAtt Address.AllocationId]}]}",
    )
    (nat,) = vpc.nat_gateways
    assert (nat.subnet, nat.address, [address.zone for address in nat.addresses]) == (None, None, ["us-east-1a"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  Gateway: {", "  Way: {Type: 'AWS::EC2::EgressOnlyInternetGateway'}\n  Gateway: {", "Way: what AWS::EC2"),
        (
            "  Gateway: {",
            "  Way: {Type: 'AWS::EFS::MountTarget', Properties: {SubnetId: x}}\n  Gateway: {",
            "Way: what",
        ),
        (
            "  Gateway: {",
            "  Way: {Type: 'AWS::ElasticLoadBalancingV2::LoadBalancer', Properties: {Subnets: [!Ref Public]}}\n"
            "  Gateway: {",
            "Way: what AWS::Elastic",
        ),
        (
            "  Gateway: {",
            "  Way: {Type: 'AWS::X::Y', Properties: {Here: {In: {Group: !Ref Plain}}}}\n  Gateway: {",
            "Way: what AWS::X::Y does",
        ),
        ("CidrIp: 10.0.0.0/16", "CidrIpv6: '::/0'", "Plain: SecurityGroupIngress: CidrIpv6"),
        ("!Ref Plain\n", "sg-0123\n", "DatabaseFromPlain: sg-0123 is not AWS::EC2::SecurityGroup of these templates"),
        ("DestinationCidrBlock: 0.0.0.0/0, GatewayId", "DestinationIpv6CidrBlock: '::/0', GatewayId", "PublicRoute: "),
        ("GatewayId: !Ref Gateway}\n  PrivateRoute", "TransitGatewayId: tgw-1}\n  PrivateRoute", "a route to"),
        ("us-east-1.s3", "us-east-1.backup", "Storage: the ranges of backup"),
        (
            "AllocationId: !GetAtt Address.AllocationId",
            "AllocationId: eipalloc-0123",
            "Nat: the address of eipalloc-0123",
        ),
        ("VpcSecurityGroupIds: [!Ref Database]", "MasterUsername: a", "Writer: it names no security group"),
        ("${Address.PublicIp}", "192.0.2.1", "EgressAddresses: the address 192.0.2.1"),
        ("Protocol: 6", "Protocol: 50", "FilterIn: the protocol 50"),
        ("CidrBlock: 10.0.4.0/24\n      Port", "Ipv6CidrBlock: '::/0'\n      Port", "FilterIn: Ipv6CidrBlock"),
        ("Default: 172.20.0.0/16", "Default: ''", "Connection: what the other end announces"),
    ],
)
def test_what_cannot_be_read_is_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(Unmodelled, match=words):
        read(old, new)


def test_our_own_network_is_read_for_the_defaults() -> None:
    vpc = network(render())
    assert {subnet.role for subnet in vpc.subnets} == {"public", "private", "database"}
    assert {str(address.public_address) for address in vpc.published} == {
        str(address.public_address) for nat in vpc.nat_gateways for address in nat.addresses
    }
