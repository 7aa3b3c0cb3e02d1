"""What the network must be. Each rule returns its faults in words; none is good."""

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import combinations
from typing import Any

from tests.contract.project import APPLICATION, NETWORK, Project, Resources

VPC_RANGES = ["10.64.0.0/16", "172.31.128.0/17", "192.168.240.0/20"]
ANYWHERE = {"0.0.0.0/0", "::/0"}
ATTACHED = {  # resources that would get the VPC's default security group if they named none, and how they name theirs
    "AWS::Lambda::Function": ("VpcConfig", "SecurityGroupIds"),
    "AWS::RDS::DBCluster": ("VpcSecurityGroupIds",),
}


def subnets_do_not_overlap_and_lie_in_the_vpc(project: Project) -> list[str]:
    """For several ranges, the smallest among them."""
    return [fault for block in VPC_RANGES for fault in _subnet_faults(project, block)]


def _subnet_faults(project: Project, block: str) -> Iterator[str]:
    subnets = project.of_type(NETWORK, "AWS::EC2::Subnet", VpcCidr=block)
    ranges = {name: IPv4Network(subnet["Properties"]["CidrBlock"]) for name, subnet in subnets.items()}
    for name, subnet in ranges.items():
        if not subnet.subnet_of(IPv4Network(block)):
            yield f"{name} {subnet} lies outside the VPC's {block}"
    for one, other in combinations(ranges, 2):
        if ranges[one].overlaps(ranges[other]):
            yield f"{one} {ranges[one]} overlaps {other} {ranges[other]}"


def each_role_spans_two_zones(project: Project) -> list[str]:
    """The private and the database subnets each lie in two different zones, and so do the public ones."""
    subnets = project.of_type(NETWORK, "AWS::EC2::Subnet")
    roles = {"private": _ids(project, "PrivateSubnetIds"), "database": _ids(project, "DatabaseSubnetIds")}
    roles["public"] = sorted(set(subnets) - {name for names in roles.values() for name in names})
    zones = {role: {subnets[name]["Properties"]["AvailabilityZone"] for name in names} for role, names in roles.items()}
    return [
        f"the {role} subnets {roles[role]} lie in {sorted(found)}" for role, found in zones.items() if len(found) < 2
    ]


def every_subnet_has_one_route_table(project: Project) -> list[str]:
    """Else it would use the VPC's main table, which nobody looks at."""
    associations = project.of_type(NETWORK, "AWS::EC2::SubnetRouteTableAssociation")
    count = Counter(item["Properties"]["SubnetId"] for item in associations.values())
    subnets = project.of_type(NETWORK, "AWS::EC2::Subnet")
    return [f"{name} has {count[name]} route tables" for name in subnets if count[name] != 1]


def no_route_leads_out_of_the_database_subnets(project: Project) -> list[str]:
    """Not to a gateway, not to an endpoint, not by propagation; and they share no table with other subnets."""
    resources = project.resources(NETWORK)
    tables = {_table_of(resources, name) for name in _ids(project, "DatabaseSubnetIds")}
    shared = [
        f"{item['Properties']['SubnetId']} shares a database route table"
        for item in resources.values()
        if item["Type"] == "AWS::EC2::SubnetRouteTableAssociation"
        and item["Properties"]["RouteTableId"] in tables
        and item["Properties"]["SubnetId"] not in _ids(project, "DatabaseSubnetIds")
    ]
    routes = [
        f"{name} leads out of a database subnet"
        for name, item in resources.items()
        if item["Type"] != "AWS::EC2::SubnetRouteTableAssociation" and tables & _route_tables_of(item)
    ]
    return shared + routes


def private_subnets_leave_by_the_nat_gateway_alone(project: Project) -> list[str]:
    """Their one route to anywhere is a NAT gateway that stands in a public subnet."""
    resources = project.resources(NETWORK)
    faults = []
    for subnet in _ids(project, "PrivateSubnetIds"):
        ways = [_way(route) for route in _default_routes(resources, _table_of(resources, subnet))]
        if [kind for kind, _ in ways] != ["NatGatewayId"]:
            faults.append(f"{subnet} leaves by {ways}")
        faults += [
            f"{nat} does not stand in a public subnet"
            for kind, nat in ways
            if kind == "NatGatewayId" and not _is_public(resources, resources[nat]["Properties"]["SubnetId"])
        ]
    return faults


def published_addresses_are_those_of_the_nat_gateways(project: Project) -> list[str]:
    """EgressAddresses names, for the zone of each private subnet, the address that its traffic leaves from."""
    resources = project.resources(NETWORK)
    true = set()
    for subnet in _ids(project, "PrivateSubnetIds"):
        for _, nat in map(_way, _default_routes(resources, _table_of(resources, subnet))):
            address = str(resources[nat]["Properties"].get("AllocationId")).replace("AllocationId", "PublicIp")
            true.add(f"{resources[subnet]['Properties']['AvailabilityZone']}={address}")
    published = set(_output(project, "EgressAddresses").split(","))
    allowlist = set(_output(project, "FixedAddresses").split(","))
    faults = [] if published == true else [f"published {sorted(published)}, true is {sorted(true)}"]
    if allowlist != {pair.partition("=")[2] for pair in published}:
        faults.append(f"partners are told {sorted(allowlist)}")
    return faults


def fixed_addresses_outlive_the_stack(project: Project) -> list[str]:
    """DeletionPolicy alone does not cover a replacement."""
    wanted = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}
    addresses = project.of_type(NETWORK, "AWS::EC2::EIP")
    faults = [
        f"{name} has {policy} {item.get(policy)}"
        for name, item in addresses.items()
        for policy, value in wanted.items()
        if item.get(policy) != value
    ]
    return faults if addresses else ["there is no fixed address"]


def only_functions_reach_the_database_and_only_on_5432(project: Project) -> list[str]:
    """One rule of its own; a rule inside the group, another port, a range or another group is a fault."""
    functions, database = (_output(project, f"{role}SecurityGroupId") for role in ("Function", "Database"))
    resources = project.resources(NETWORK)
    rules = [
        item["Properties"] | {"name": name}
        for name, item in resources.items()
        if item["Type"] == "AWS::EC2::SecurityGroupIngress" and item["Properties"]["GroupId"] == database
    ]
    inline = resources[database.removesuffix(".GroupId")]["Properties"].get("SecurityGroupIngress", [])
    faults = [f"{rule.get('name', 'a rule inside the group')} lets in {rule}" for rule in inline]
    faults += [f"{rule['name']} lets in {rule}" for rule in rules if _reach(rule) != ("tcp", 5432, 5432, functions)]
    return faults if rules else [*faults, "nothing reaches the database"]


def the_database_group_opens_nothing_outwards(project: Project) -> list[str]:
    """It states an egress (else CloudFormation adds allow-all), to nowhere, and no rule of its own adds another."""
    group = _output(project, "DatabaseSecurityGroupId")
    resources = project.resources(NETWORK)
    stated = resources[group.removesuffix(".GroupId")]["Properties"].get("SecurityGroupEgress")
    faults = [] if stated else ["no egress is stated, so CloudFormation adds allow-all"]
    faults += [f"egress to {rule}" for rule in stated or [] if rule.get("CidrIp") != "127.0.0.1/32"]
    return faults + [
        f"{name} opens an egress"
        for name, item in resources.items()
        if item["Type"] == "AWS::EC2::SecurityGroupEgress" and item["Properties"]["GroupId"] == group
    ]


def functions_let_nothing_in_and_out_only_what_is_allowed(project: Project) -> list[str]:
    """Out: the ports of ALLOWED_PORTS to anywhere, and 5432 to the database's group."""
    functions, database = (_output(project, f"{role}SecurityGroupId") for role in ("Function", "Database"))
    resources = project.resources(NETWORK)
    inside = resources[functions.removesuffix(".GroupId")]["Properties"]
    own = [
        item
        for item in resources.values()
        if item["Type"].startswith("AWS::EC2::SecurityGroup") and item["Properties"].get("GroupId") == functions
    ]
    faults = ["the group lets something in"] if inside.get("SecurityGroupIngress") else []
    faults += ["a rule lets something in" for item in own if item["Type"].endswith("Ingress")]
    outwards = [
        *inside.get("SecurityGroupEgress", []),
        *(item["Properties"] for item in own if "Egress" in item["Type"]),
    ]
    found = {_reach(rule) for rule in outwards}
    wanted = {("tcp", port, port, "0.0.0.0/0") for port in _allowed_ports(project)} | {("tcp", 5432, 5432, database)}
    return faults + [f"egress differs in {rule}" for rule in sorted(found ^ wanted, key=str)]


def everything_in_the_vpc_names_its_security_group(project: Project) -> list[str]:
    """The VPC's default group lets its members talk to each other and anywhere."""
    faults = []
    for template in project.texts:
        for name, item in project.resources(template).items():
            value: Any = item["Properties"] if item["Type"] in ATTACHED else None
            for key in ATTACHED.get(item["Type"], ()):
                value = (value or {}).get(key)
            if item["Type"] in ATTACHED and not value:
                faults.append(f"{name} names no security group")
    return faults


def no_way_round_the_nat_gateway(project: Project) -> list[str]:
    """No IPv6, no public address of its own for anything in a subnet."""
    resources = project.resources(NETWORK)
    faults = [
        f"{name} is a way round the NAT gateway"
        for name, item in resources.items()
        if item["Type"] in {"AWS::EC2::EgressOnlyInternetGateway", "AWS::EC2::VPCCidrBlock", "AWS::EC2::EIPAssociation"}
    ]
    faults += [
        f"{name} hands out addresses by itself"
        for name, item in resources.items()
        if item["Type"] == "AWS::EC2::Subnet"
        and (item["Properties"].get("MapPublicIpOnLaunch") is not False or "Ipv6CidrBlock" in item["Properties"])
    ]
    return faults + [
        f"{name} uses IPv6"
        for name, item in project.functions().items()
        if item["Properties"]["VpcConfig"].get("Ipv6AllowedForDualStack")
    ]


def functions_and_database_stand_in_their_own_subnets(project: Project) -> list[str]:
    """Functions in the private subnets, the cluster in the database subnets, each with its own group."""
    faults = [
        f"{name} stands in {item['Properties'].get('VpcConfig')}"
        for name, item in project.functions().items()
        if item["Properties"].get("VpcConfig")
        != {
            "SubnetIds": _ids(project, "PrivateSubnetIds"),
            "SecurityGroupIds": [_output(project, "FunctionSecurityGroupId")],
        }
    ]
    given = project.resources(APPLICATION)["Database"]["Properties"]["Parameters"]
    if given.get("SubnetIds") != _output(project, "DatabaseSubnetIds"):
        faults.append(f"the database stands in {given.get('SubnetIds')}")
    if given.get("SecurityGroupId") != _output(project, "DatabaseSecurityGroupId"):
        faults.append(f"the database has the group {given.get('SecurityGroupId')}")
    return faults


def _allowed_ports(project: Project) -> set[int]:
    lists = {
        variables["ALLOWED_PORTS"]
        for item in project.functions().values()
        if "ALLOWED_PORTS" in (variables := item["Properties"]["Environment"]["Variables"])
    }
    return {int(port) for ports in lists for port in ports.split(",")}


def _output(project: Project, name: str) -> str:
    return str(project.application().outputs[f"Network.{name}"])


def _ids(project: Project, name: str) -> list[str]:
    return _output(project, name).split(",")


def _table_of(resources: Resources, subnet: str) -> str | None:
    tables = [
        item["Properties"]["RouteTableId"]
        for item in resources.values()
        if item["Type"] == "AWS::EC2::SubnetRouteTableAssociation" and item["Properties"]["SubnetId"] == subnet
    ]
    return tables[0] if tables else None


def _route_tables_of(item: dict[str, Any]) -> set[str]:
    properties = item.get("Properties", {})
    return {properties.get("RouteTableId"), *properties.get("RouteTableIds", [])} - {None}


def _default_routes(resources: Resources, table: str | None) -> list[dict[str, Any]]:
    return [
        item["Properties"]
        for item in resources.values()
        if item["Type"] == "AWS::EC2::Route"
        and item["Properties"]["RouteTableId"] == table
        and ANYWHERE & set(map(str, item["Properties"].values()))
    ]


def _way(route: dict[str, Any]) -> tuple[str, str]:
    return next(
        (key, str(value)) for key, value in route.items() if key not in {"RouteTableId", "DestinationCidrBlock"}
    )


def _is_public(resources: Resources, subnet: str) -> bool:
    ways = [_way(route) for route in _default_routes(resources, _table_of(resources, subnet))]
    return [resources[target]["Type"] for _, target in ways if target in resources] == ["AWS::EC2::InternetGateway"]


def _reach(rule: dict[str, Any]) -> tuple[str, int | None, int | None, str]:
    """Protocol, ports and the other side of a security group's rule."""
    sides = ("SourceSecurityGroupId", "DestinationSecurityGroupId", "CidrIp", "CidrIpv6")
    other = next((str(rule[side]) for side in sides if side in rule), "unknown")
    return str(rule.get("IpProtocol")), rule.get("FromPort"), rule.get("ToPort"), other


RULES = [
    subnets_do_not_overlap_and_lie_in_the_vpc,
    each_role_spans_two_zones,
    every_subnet_has_one_route_table,
    no_route_leads_out_of_the_database_subnets,
    private_subnets_leave_by_the_nat_gateway_alone,
    published_addresses_are_those_of_the_nat_gateways,
    fixed_addresses_outlive_the_stack,
    only_functions_reach_the_database_and_only_on_5432,
    the_database_group_opens_nothing_outwards,
    functions_let_nothing_in_and_out_only_what_is_allowed,
    everything_in_the_vpc_names_its_security_group,
    no_way_round_the_nat_gateway,
    functions_and_database_stand_in_their_own_subnets,
]
