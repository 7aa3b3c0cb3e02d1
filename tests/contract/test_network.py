"""The network keeps its rules in every choice, and each rule notices the networks that break it.

Some of the broken networks are at fault in one topology or one mode alone.
"""

import re

import pytest

from tests.contract import rules_network as rules
from tests.contract.changes import Change, Rule, added, name_of, resource, reworded, together, without
from tests.contract.project import APPLICATION, DATABASE, NETWORK, ROOT, load

ENDPOINTS = "infra/endpoints.yaml"
VPN = "infra/vpn.yaml"

TO_ANYWHERE = """
  DatabaseOutwardRoute:
    Type: AWS::EC2::Route
    {condition}
    Properties:
      RouteTableId: !Ref {table}
      DestinationCidrBlock: 0.0.0.0/0
      {target}
"""
LETTING_IN = """
  LettingIn:
    Type: AWS::EC2::SecurityGroupIngress
    {condition}
    Properties:
      GroupId: !GetAtt {group}.GroupId
      IpProtocol: tcp
      FromPort: {port}
      ToPort: {port}
      CidrIp: {block}
"""
LETTING_OUT = """
  LettingOut:
    Type: AWS::EC2::SecurityGroupEgress
    {condition}
    Properties:
      GroupId: !GetAtt {group}.GroupId
      IpProtocol: tcp
      FromPort: 443
      ToPort: 443
      CidrIp: 0.0.0.0/0
"""
ACCESS_LIST_ENTRY = """
  AccessListEntry{direction}:
    Type: AWS::EC2::NetworkAclEntry
    {condition}
    Properties:
      NetworkAclId: !Ref DatabaseNetworkAcl
      Egress: {egress}
      RuleNumber: 50
      RuleAction: allow
      Protocol: -1
      CidrBlock: 0.0.0.0/0
"""
IPV6_WAY = """
  Ipv6Way:
    Type: AWS::EC2::EgressOnlyInternetGateway
    Properties:
      VpcId: !Ref Vpc
"""
ANOTHER_ADDRESS = """
  EgressAddressC:
    Type: AWS::EC2::EIP
    Condition: HasInternet
    DeletionPolicy: RetainExceptOnCreate
    UpdateReplacePolicy: Retain
"""
LAMBDA_ENDPOINT = """
  LambdaEndpoint:
    Type: AWS::EC2::VPCEndpoint
    Condition: HasSqsEndpoint
    Properties:
      VpcEndpointType: Interface
      VpcId: !Ref VpcId
      ServiceName: !Sub com.amazonaws.${AWS::Region}.lambda
      SubnetIds: !Ref SubnetIds
      SecurityGroupIds: [!Ref EndpointSecurityGroupId]
"""


def route(table: str, target: str, condition: str = "") -> str:
    """One more egress rule."""
    return TO_ANYWHERE.format(table=table, target=target, condition=condition and f"Condition: {condition}")


def let_in(group: str, *, block: str = "0.0.0.0/0", port: int = 5432, condition: str = "") -> Change:
    """One more rule of a security group."""
    words = condition and f"Condition: {condition}"
    return added(NETWORK, "Resources", LETTING_IN.format(group=group, block=block, port=port, condition=words))


def let_out(group: str, condition: str = "") -> Change:
    """One more egress rule of a security group."""
    return added(
        NETWORK, "Resources", LETTING_OUT.format(group=group, condition=condition and f"Condition: {condition}")
    )


def open_access_list(condition: str = "") -> Change:
    """An access list that lets everything through."""
    entries = [
        ACCESS_LIST_ENTRY.format(direction=direction, egress=egress, condition=condition and f"Condition: {condition}")
        for direction, egress in (("In", "false"), ("Out", "true"))
    ]
    return added(NETWORK, "Resources", "".join(entries))


BROKEN: dict[Rule, list[Change]] = {
    rules.every_choice_can_be_made: [
        resource(
            NETWORK,
            "PrivateDefaultRouteA",
            "!If [UsesRegionalNat, !Ref RegionalNatGateway, ",
            "!If [IsInternetAccessible, !Ref RegionalNatGateway, ",
        ),
        resource(APPLICATION, "FixedAddresses", "    Condition: HasInternet\n", ""),
        resource(APPLICATION, "BastionInstanceId", "Outputs.InstanceId", "Outputs.Instance"),
        resource(ENDPOINTS, "ApiEndpointId", "    Condition: HasPrivateApi\n", ""),
        resource(
            APPLICATION,
            "ApiFunction",
            "!GetAtt Network.Outputs.OutboundFunctionSecurityGroupId",
            "sg-0123456789abcdef0",
        ),
        resource(
            APPLICATION,
            "AdminFunction",
            "SecurityGroupIds: [!GetAtt Network.Outputs.DatabaseClientSecurityGroupId]",
            "SecurityGroupIds: []",
        ),
        reworded(DATABASE, "      VpcSecurityGroupIds:\n        - !Ref SecurityGroupId\n", ""),
        added(NETWORK, "Resources", IPV6_WAY),
        resource(APPLICATION, "Api", "    Metadata:\n", "    DependsOn: ApiGatewayAccount\n    Metadata:\n"),
    ],
    rules.every_choice_is_offered_somewhere: [
        resource(APPLICATION, "DatabaseProxy", "AllowedValues: ['no', 'yes']", "AllowedValues: ['no']"),
    ],
    rules.subnets_do_not_overlap_and_lie_in_the_vpc: [
        resource(NETWORK, "PrivateSubnetB", "[5,", "[4,"),
        resource(NETWORK, "PublicSubnetA", "!Select [0, !Cidr [!GetAtt Vpc.CidrBlock, 10, 8]]", "10.65.0.0/24"),
        resource(
            NETWORK,
            "PrivateSubnetA",
            "[4, !Cidr [!GetAtt Vpc.CidrBlock, 10, 8]]",
            "[0, !Cidr [!GetAtt Vpc.CidrBlock, 1, 10]]",
        ),
    ],
    rules.each_role_spans_two_zones: [
        resource(NETWORK, "DatabaseSubnetB", "[1, !GetAZs", "[0, !GetAZs"),
        resource(NETWORK, "PrivateSubnetB", "[1, !GetAZs", "[0, !GetAZs"),
        resource(NETWORK, "PrivateSubnetB", "!Ref ZoneNameB", "!Ref ZoneNameA"),
        resource(NETWORK, "PublicSubnetB", "[1, !GetAZs", "[0, !GetAZs"),
        resource(NETWORK, "PublicDefaultRoute", "    Condition: UsesZonalNat\n", "    Condition: UsesNatPerZone\n"),
    ],
    rules.every_subnet_has_one_route_table: [
        without(NETWORK, "PrivateSubnetBRouteTableAssociation"),
        resource(NETWORK, "PublicSubnetBRouteTableAssociation", "UsesZonalNat", "UsesNatPerZone"),
    ],
    rules.no_two_roles_share_a_route_table: [
        resource(NETWORK, "DatabaseSubnetBRouteTableAssociation", "DatabaseRouteTable", "PrivateRouteTableB"),
    ],
    rules.everything_stands_in_its_own_subnets: [
        resource(APPLICATION, "Database", "Network.Outputs.DatabaseSubnetIds", "Network.Outputs.PrivateSubnetIds"),
        resource(NETWORK, "NatGatewayB", "!Ref PublicSubnetB", "!Ref PrivateSubnetB"),
        resource(APPLICATION, "BastionHost", "PrivateSubnetAId", "ZoneA"),
        resource(APPLICATION, "Endpoints", "PrivateSubnetIds", "DatabaseSubnetIds"),
    ],
    rules.exactly_those_who_may_reach_the_database: [
        without(NETWORK, "DatabaseFromDatabaseFunctionIngress"),
        without(NETWORK, "DatabaseNetworkAclFromPrivateB"),
        without(NETWORK, "DatabaseNetworkAclToPrivateA"),  # stateless: the answers need their own
        resource(NETWORK, "DatabaseFromBastionIngress", "Condition: HasBastion", "Condition: IsInternetAccessible"),
        resource(NETWORK, "DatabaseFromProxyIngress", "ProxySecurityGroup.GroupId", "BastionSecurityGroup.GroupId"),
        resource(NETWORK, "DatabaseNetworkAclFromPrivateB", "RuleAction: allow", "RuleAction: deny"),
        resource(APPLICATION, "CheckEgressB", "EgressCheckSecurityGroupId", "OutboundFunctionSecurityGroupId"),
    ],
    rules.functions_reach_the_host_that_they_are_told: [
        without(NETWORK, "ProxyFromDatabaseFunctionIngress"),
        resource(NETWORK, "ProxyFromOutboundFunctionIngress", "!GetAtt OutboundFunction", "!GetAtt MigrateFunction"),
        resource(APPLICATION, "MigrateFunction", "Database.Outputs.Endpoint", "Database.Outputs.Host"),
    ],
    rules.from_outside_only_those_asked_for_reach_the_database: [
        together(let_in("DatabaseSecurityGroup"), open_access_list()),  # seen where there is a way: internet-accessible
        resource(NETWORK, "DatabaseFromDeveloperIngress", "!Ref DeveloperCidr", "198.51.100.7/32"),
        resource(NETWORK, "DatabaseNetworkAclToDeveloper", "{From: 1024,", "{From: 32768,"),
        without(NETWORK, "DatabaseDefaultRoute"),
        without(VPN, "DatabaseCorporateRoute"),
        resource(
            VPN,
            "VpnRoutePropagation",
            "        - !If [AllowsDatabaseAccess, !Ref DatabaseRouteTableId, !Ref AWS::NoValue]\n",
            "",
        ),
        resource(DATABASE, "DatabaseReaderInstance", "!Ref PubliclyAccessible", "true"),
        resource(
            APPLICATION,
            "Database",
            "PubliclyAccessible: !If [IsInternetAccessible, 'true', 'false']",
            "PubliclyAccessible: 'true'",
        ),
    ],
    rules.the_database_group_names_nobody_else: [
        let_in("DatabaseSecurityGroup"),
        let_in("DatabaseSecurityGroup", block="10.64.8.0/24"),
        let_in("ProxySecurityGroup", block="10.64.0.0/16", condition="UsesProxy"),
        let_in("DatabaseSecurityGroup", block="203.0.113.77/32", condition="IsInternalOnly"),
        resource(NETWORK, "DatabaseFromOutboundFunctionIngress", "ToPort: 5432", "ToPort: 5433"),
        resource(
            NETWORK, "DatabaseFromCorporateIngress", "Condition: AllowsCorporateDatabaseAccess", "Condition: HasVpn"
        ),
        resource(
            NETWORK,
            "DatabaseSecurityGroup",
            "      SecurityGroupEgress:",
            "      SecurityGroupIngress:\n        - {IpProtocol: '-1', CidrIp: 0.0.0.0/0}\n      SecurityGroupEgress:",
        ),
    ],
    rules.the_access_list_alone_keeps_others_from_the_database: [
        open_access_list(),
        open_access_list("IsInternetAccessible"),
        open_access_list("AllowsCorporateDatabaseAccess"),
        without(NETWORK, "DatabaseSubnetBNetworkAclAssociation"),
        resource(NETWORK, "DatabaseNetworkAclFromPrivateA", "{From: 5432,", "{From: 3306,"),
        together(
            resource(NETWORK, "DatabaseNetworkAclFromDeveloper", "!Ref DeveloperCidr", "0.0.0.0/0"),
            resource(NETWORK, "DatabaseNetworkAclToDeveloper", "!Ref DeveloperCidr", "0.0.0.0/0"),
        ),
    ],
    rules.the_database_opens_nothing_outwards: [
        together(
            resource(NETWORK, "DatabaseSecurityGroup", "127.0.0.1/32", "0.0.0.0/0"),
            open_access_list("IsInternetAccessible"),
        ),
        together(let_out("DatabaseSecurityGroup", "IsInternetAccessible"), open_access_list()),
    ],
    rules.routes_of_the_database_subnets_are_those_asked_for: [
        added(NETWORK, "Resources", route("DatabaseRouteTable", "NatGatewayId: !Ref NatGatewayA", "UsesNatPerZone")),
        resource(NETWORK, "DatabaseDefaultRoute", "Condition: IsInternetAccessible", "Condition: HasInternet"),
        resource(NETWORK, "S3Endpoint", "- !Ref PrivateRouteTableB\n", "- !Ref DatabaseRouteTable\n"),
        resource(VPN, "DatabaseCorporateRoute", "Condition: UsesStaticRouteOfDatabase", "Condition: UsesStaticRoutes"),
    ],
    rules.what_leaves_leaves_by_the_address_published_for_its_zone: [
        resource(
            NETWORK,
            "PrivateDefaultRouteA",
            "NatGatewayId: !If [UsesRegionalNat, !Ref RegionalNatGateway, !Ref NatGatewayA]",
            "GatewayId: !Ref InternetGateway",
        ),
        resource(
            NETWORK,
            "PrivateDefaultRouteB",
            "!If [UsesNatPerZone, !Ref NatGatewayB, !Ref NatGatewayA]",
            "!Ref NatGatewayA",
        ),
        resource(NETWORK, "EgressAddresses", "!GetAtt PrivateSubnetB", "!GetAtt PrivateSubnetA"),
        resource(
            NETWORK,
            "EgressAddresses",
            "!If [MakesAddressB, !GetAtt EgressAddressB.PublicIp, !Ref AddressB]",
            "!GetAtt EgressAddressA.PublicIp",
        ),
        resource(NETWORK, "NatGatewayB", "!Ref PublicSubnetB", "!Ref PublicSubnetA"),
        resource(
            NETWORK,
            "RegionalNatGateway",
            "AvailabilityZone: !GetAtt PrivateSubnetB",
            "AvailabilityZone: !GetAtt PrivateSubnetA",
        ),
        resource(NETWORK, "PrivateSubnetARouteTableAssociation", "!Ref PrivateRouteTableA", "!Ref PrivateRouteTableB"),
        without(NETWORK, "PublicDefaultRoute"),
    ],
    rules.partners_are_told_each_address_once: [
        resource(NETWORK, "FixedAddresses", "          - HasTwoAddresses", "          - UsesNatPerZone"),
        resource(NETWORK, "EgressAllocationIds", "          - HasTwoAddresses", "          - UsesRegionalNat"),
    ],
    rules.given_addresses_are_used_and_no_new_ones_made: [
        added(NETWORK, "Resources", ANOTHER_ADDRESS),
        resource(NETWORK, "EgressAddressB", "Condition: MakesAddressB", "Condition: HasInternet"),
        resource(NETWORK, "EgressAddressA", "Condition: MakesAddressA", "Condition: HasInternet"),
    ],
    rules.no_way_round_the_nat_gateway: [
        resource(NETWORK, "PrivateSubnetA", "MapPublicIpOnLaunch: false", "MapPublicIpOnLaunch: true"),
        resource(NETWORK, "PrivateSubnetB", "      MapPublicIpOnLaunch: false\n", ""),
        resource(
            APPLICATION,
            "ApiFunction",
            "      VpcConfig:\n",
            "      VpcConfig:\n        Ipv6AllowedForDualStack: true\n",
        ),
        reworded(
            DATABASE,
            "      Engine: aurora-postgresql\n",
            "      Engine: aurora-postgresql\n      NetworkType: DUAL-STACK\n",
        ),
    ],
    rules.nothing_leads_out_of_internal_only: [
        resource(NETWORK, "InternetGateway", "    Condition: HasInternet\n", ""),
        added(NETWORK, "Resources", route("PrivateRouteTableA", "GatewayId: vgw-0123456789abcdef0", "IsInternalOnly")),
        reworded(NETWORK, "UsesZonalNat: !And [!Condition HasInternet, ", "UsesZonalNat: !And [!Equals [a, a], "),
    ],
    rules.functions_let_nothing_in: [
        let_in("OutboundFunctionSecurityGroup", block="10.0.0.0/8", port=443),
        let_in("BastionSecurityGroup", port=22, condition="HasBastion"),
    ],
    rules.functions_reach_out_only_as_far_as_they_must: [
        resource(
            NETWORK, "OutboundFunctionSecurityGroup", "FromPort: 8443, ToPort: 8443", "FromPort: 8443, ToPort: 9443"
        ),
        reworded(APPLICATION, "ALLOWED_PORTS: 80,443,8080,8443", "ALLOWED_PORTS: 80,443", count=2),
        let_out("OutboundFunctionSecurityGroup", "IsInternalOnly"),
        let_out("DatabaseClientSecurityGroup"),
        resource(NETWORK, "MigrateFunctionSecurityGroup", "FromPort: 443, ToPort: 443", "FromPort: 0, ToPort: 65535"),
        resource(NETWORK, "DatabaseClientSecurityGroup", "      SecurityGroupEgress:", "      Unknown:"),
        reworded(
            NETWORK, "HasPrivateRangeD: !Not [!Equals [!Select [3,", "HasPrivateRangeD: !Not [!Equals [!Select [4,"
        ),
    ],
    rules.interface_endpoints_are_those_that_are_needed: [
        resource(
            APPLICATION,
            "Endpoints",
            "!If [IsInternalOnly, 'sqs,secretsmanager', !Ref InterfaceEndpoints]",
            "!Ref InterfaceEndpoints",
        ),
        resource(APPLICATION, "Endpoints", "!If [HasXrayEndpoint, 'yes', 'no']", "'no'"),
        resource(ENDPOINTS, "SystemsManagerEndpoint", "HasSystemsManagerEndpoints", "HasSqsEndpoint"),
        added(ENDPOINTS, "Resources", LAMBDA_ENDPOINT),
        resource(APPLICATION, "Endpoints", "!If [HasEventsEndpoint, !Ref EventBusName, '']", "''"),
        resource(APPLICATION, "Endpoints", "!If [HasEventsEndpoint, !Ref EventBusName, '']", "!Ref EventBusName"),
        without(ENDPOINTS, "XrayEndpoint"),
        resource(APPLICATION, "ApiRole", "secretsmanager:GetSecretValue", "dynamodb:GetItem"),
        resource(ENDPOINTS, "ApiEndpoint", "Condition: HasPrivateApi", "Condition: HasSqsEndpoint"),
    ],
    rules.endpoints_open_to_those_who_call_them: [
        without(NETWORK, "EndpointFromOutboundFunctionIngress"),
        without(NETWORK, "EndpointFromBastionIngress"),
        resource(ENDPOINTS, "NamedCallersSecurityGroup", "HasCallersJ", "HasSqsEndpoint"),
        resource(ENDPOINTS, "NamedCallersSecurityGroup", "!Select [2,", "!Select [1,"),
        let_in("ApiEndpointSecurityGroup", port=443, condition="HasPrivateApi"),
        let_in("EndpointSecurityGroup", block="10.64.0.0/16", port=443, condition="HasServiceEndpoints"),
        resource(NETWORK, "ApiEndpointFromVpcIngress", "FromPort: 443", "FromPort: 1"),
    ],
    rules.no_group_has_a_rule_twice: [
        let_in("ApiEndpointSecurityGroup", block="172.20.0.0/16", port=443, condition="HasPrivateApiAndVpn"),
        resource(NETWORK, "OutboundFunctionSecurityGroup", "FromPort: 8080, ToPort: 8080", "FromPort: 80, ToPort: 80"),
    ],
    rules.the_corporate_network_reaches_what_it_should: [
        without(NETWORK, "ApiEndpointFromCorporateIngress"),
        without(VPN, "PrivateCorporateRouteB"),
        resource(VPN, "VpnRoutePropagation", "        - !Ref PrivateRouteTableBId\n", ""),
    ],
}


@pytest.mark.parametrize("rule", rules.RULES, ids=name_of)
def test_the_network_keeps_the_rule(rule: Rule) -> None:
    assert rule(load()) == []


@pytest.mark.parametrize(
    ("rule", "change"), [(rule, change) for rule, changes in BROKEN.items() for change in changes], ids=name_of
)
def test_a_broken_network_is_noticed(rule: Rule, change: Change) -> None:
    assert rule(change(load())) != []


def test_every_rule_has_a_broken_network() -> None:
    assert [rule.__name__ for rule in rules.RULES if not BROKEN.get(rule)] == []


def test_the_queues_endpoint_lets_through_what_functions_themselves_call() -> None:
    """A batch takes the permission of its action. What the code calls is read off it: Lambda's own poller, which has
    rights by the same role, is outside the VPC."""
    endpoint = load().resources(ENDPOINTS, Topology="internal-only", AllowedPrivateCidrs="172.20.0.0/16")
    (let_through,) = endpoint["Endpoints.SqsEndpoint"]["Properties"]["PolicyDocument"]["Statement"]
    code = (ROOT / "src/wakeups/sqs.py").read_text(encoding="utf-8")
    called = {
        f"sqs:{action.removesuffix('Batch')}"
        for action in re.findall(r'(?:_call\(|AmazonSQS\.|")(\w+Batch|(?:Get|Receive)\w+)"', code)
    }
    assert {"sqs:SendMessage", "sqs:ReceiveMessage", "sqs:GetQueueUrl"} <= called
    assert called == set(let_through["Action"])
