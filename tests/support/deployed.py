"""The resources of rendered templates, made in moto by the services' own APIs, and CloudFormation's lists of them.

moto differs from AWS where this file says "moto:"; there the test puts things right, so that the source that is tested
need not.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.ec2.models import ec2_backends

from stack.network.from_templates import SERVICE_RANGES
from stack.network.model import InterfaceKind, Network
from stack.render import Rendered

REGION = "us-east-1"


@dataclass
class Deployed:
    """What was made. `ids` are AWS's ids by the addresses of the templates."""

    rendered: Rendered
    network: Network
    ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ec2 = boto3.client("ec2", REGION)
        self.backend = ec2_backends["123456789012"][REGION]
        for make in (
            self._vpc,
            self._subnets,
            self._gateway,
            self._groups,
            self._rules,
            self._acls,
            self._tables,
            self._nat_gateways,
            self._routes,
            self._endpoints,
            self._functions,
            self._database,
        ):
            make()

    # ---- CloudFormation's part

    def stack(self) -> dict[str, Any]:
        """As describe_stacks has it."""
        addresses = ",".join(f"{published.zone}={published.public_address}" for published in self.network.published)
        return {
            "StackName": "lab",
            "Parameters": [
                {"ParameterKey": name, "ParameterValue": value} for name, value in self.rendered.parameters.items()
            ],
            "Outputs": [{"OutputKey": "EgressAddresses", "OutputValue": addresses}] if addresses else [],
        }

    def summaries(self, stack: str) -> list[dict[str, Any]]:
        """As list_stack_resources has it; a nested stack is called by its address."""
        prefix = "" if stack == "lab" else f"{stack}."
        found = []
        for address, resource in self.rendered.resources.items():
            if address.startswith(prefix) and "." not in (name := address.removeprefix(prefix)):
                identity = (
                    address if resource["Type"] == "AWS::CloudFormation::Stack" else self.ids.get(address, address)
                )
                found.append(
                    {"LogicalResourceId": name, "ResourceType": resource["Type"], "PhysicalResourceId": identity}
                )
        return found

    # ---- finding

    def _of(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for address, resource in self.rendered.of_type(kind).items():
            yield address, resource["Properties"]

    def _id(self, value: Any) -> str:
        """AWS's id for a Ref or an attribute; the text itself for all else."""
        name = str(value)
        while name and name not in self.ids:
            name = name.rpartition(".")[0]
        return self.ids.get(name, str(value))

    # ---- making

    def _vpc(self) -> None:
        for address, vpc in self._of("AWS::EC2::VPC"):
            self.ids[address] = self.ec2.create_vpc(CidrBlock=vpc["CidrBlock"])["Vpc"]["VpcId"]
            self.ec2.modify_vpc_attribute(
                VpcId=self.ids[address], EnableDnsHostnames={"Value": vpc["EnableDnsHostnames"]}
            )

    @property
    def vpc(self) -> str:
        return self.ids[self.network.vpc]

    def _subnets(self) -> None:
        for address, subnet in self._of("AWS::EC2::Subnet"):
            made = self.ec2.create_subnet(
                VpcId=self.vpc, CidrBlock=subnet["CidrBlock"], AvailabilityZone=subnet["AvailabilityZone"]
            )
            self.ids[address] = made["Subnet"]["SubnetId"]

    def _gateway(self) -> None:
        for address, _ in self._of("AWS::EC2::InternetGateway"):
            self.ids[address] = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
            self.ec2.attach_internet_gateway(InternetGatewayId=self.ids[address], VpcId=self.vpc)

    def _groups(self) -> None:
        for address, _ in self._of("AWS::EC2::SecurityGroup"):
            made = self.ec2.create_security_group(GroupName=address, Description=address, VpcId=self.vpc)
            self.ids[address] = made["GroupId"]

    def _rules(self) -> None:
        for address, group in self._of("AWS::EC2::SecurityGroup"):
            if group.get("SecurityGroupEgress"):  # CloudFormation takes EC2's own rule away where others are given
                self.ec2.revoke_security_group_egress(
                    GroupId=self.ids[address],
                    IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
                )
            for direction in ("Ingress", "Egress"):
                for rule in group.get(f"SecurityGroup{direction}", ()):
                    self._allow(self.ids[address], direction, rule)
        for direction in ("Ingress", "Egress"):
            for address, rule in self._of(f"AWS::EC2::SecurityGroup{direction}"):
                self.ids[address] = self._allow(self._id(rule["GroupId"]), direction, rule)

    def _allow(self, group: str, direction: str, rule: Mapping[str, Any]) -> str:
        permission: dict[str, Any] = {"IpProtocol": str(rule["IpProtocol"])}
        for key in ("FromPort", "ToPort"):
            if key in rule:
                permission[key] = int(rule[key])
        other = rule.get("SourceSecurityGroupId") or rule.get("DestinationSecurityGroupId")
        if other is None:
            permission["IpRanges"] = [{"CidrIp": rule["CidrIp"]}]
        else:
            permission["UserIdGroupPairs"] = [{"GroupId": self._id(other)}]
        allow = getattr(self.ec2, f"authorize_security_group_{direction.lower()}")
        return str(allow(GroupId=group, IpPermissions=[permission])["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def _acls(self) -> None:
        for address, _ in self._of("AWS::EC2::NetworkAcl"):
            self.ids[address] = self.ec2.create_network_acl(VpcId=self.vpc)["NetworkAcl"]["NetworkAclId"]
        for _, entry in self._of("AWS::EC2::NetworkAclEntry"):
            ports = entry.get("PortRange")
            self.ec2.create_network_acl_entry(
                NetworkAclId=self._id(entry["NetworkAclId"]),
                RuleNumber=int(entry["RuleNumber"]),
                Protocol=str(entry["Protocol"]),
                RuleAction=entry["RuleAction"],
                Egress=str(entry.get("Egress", False)).lower() == "true",
                CidrBlock=entry["CidrBlock"],
                **({"PortRange": {"From": int(ports["From"]), "To": int(ports["To"])}} if ports else {}),
            )
        for _, link in self._of("AWS::EC2::SubnetNetworkAclAssociation"):
            subnet = self._id(link["SubnetId"])
            (association,) = [
                association["NetworkAclAssociationId"]
                for acl in self.ec2.describe_network_acls()["NetworkAcls"]
                for association in acl["Associations"]
                if association["SubnetId"] == subnet
            ]
            self.ec2.replace_network_acl_association(
                AssociationId=association, NetworkAclId=self._id(link["NetworkAclId"])
            )

    def _tables(self) -> None:
        for address, _ in self._of("AWS::EC2::RouteTable"):
            self.ids[address] = self.ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        for _, association in self._of("AWS::EC2::SubnetRouteTableAssociation"):
            self.ec2.associate_route_table(
                RouteTableId=self._id(association["RouteTableId"]), SubnetId=self._id(association["SubnetId"])
            )

    def _nat_gateways(self) -> None:
        for nat in self.network.nat_gateways:
            (fixed,) = nat.addresses
            allocated = self.ec2.allocate_address(Domain="vpc", Address=str(fixed.public_address))
            self.ids[fixed.allocation] = allocated["AllocationId"]
            assert nat.subnet is not None
            made = self.ec2.create_nat_gateway(SubnetId=self.ids[nat.subnet], AllocationId=allocated["AllocationId"])
            self.ids[nat.id] = made["NatGateway"]["NatGatewayId"]
            # moto: its private address is a random one, outside of its subnet.
            (place,) = self.backend.nat_gateways[self.ids[nat.id]].address_set
            place["privateIp"] = str(nat.address)
            self.backend.get_network_interface(place["networkInterfaceId"]).private_ip_address = str(nat.address)

    def _routes(self) -> None:
        for _, route in self._of("AWS::EC2::Route"):
            target = {key: self._id(route[key]) for key in ("GatewayId", "NatGatewayId") if key in route}
            self.ec2.create_route(
                RouteTableId=self._id(route["RouteTableId"]),
                DestinationCidrBlock=route["DestinationCidrBlock"],
                **target,
            )

    def _endpoints(self) -> None:
        """moto: describe_prefix_lists returns no ranges; they are those that stack/network/from_templates.py uses."""
        for prefix_list in self.backend.managed_prefix_lists.values():
            known = SERVICE_RANGES.get(str(prefix_list.prefix_list_name).rpartition(".")[2], ())
            vars(prefix_list)["cidrs"] = [str(cidr) for cidr in known]
        for address, endpoint in self._of("AWS::EC2::VPCEndpoint"):
            kind = endpoint.get("VpcEndpointType", "Gateway")
            words: dict[str, Any] = {"VpcId": self.vpc, "ServiceName": endpoint["ServiceName"], "VpcEndpointType": kind}
            if kind == "Gateway":
                words["RouteTableIds"] = [self._id(table) for table in endpoint["RouteTableIds"]]
            else:
                words["SubnetIds"] = [self._id(subnet) for subnet in endpoint["SubnetIds"]]
                words["SecurityGroupIds"] = [self._id(group) for group in endpoint["SecurityGroupIds"]]
            made = self.ec2.create_vpc_endpoint(**words)["VpcEndpoint"]
            self.ids[address] = made["VpcEndpointId"]
            self._place(address, made.get("NetworkInterfaceIds", []), words.get("SecurityGroupIds", []))

    def _place(self, owner: str, interfaces: list[str], groups: list[str]) -> None:
        """moto: interfaces of endpoints have random addresses, and no groups."""
        wanted = {
            self.ids[interface.subnet]: interface for interface in self.network.interfaces if interface.owner == owner
        }
        for name in interfaces:
            found = self.backend.get_network_interface(name)
            found.private_ip_address = str(wanted[found.subnet.id].address)
            found.private_ip_addresses = [{"PrivateIpAddress": found.private_ip_address, "Primary": True}]
            self.ec2.modify_network_interface_attribute(NetworkInterfaceId=name, Groups=groups)
            found.status = "in-use"

    def _functions(self) -> None:
        role = boto3.client("iam", REGION).create_role(RoleName="lab", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        lambdas, code = boto3.client("lambda", REGION), io.BytesIO()
        with zipfile.ZipFile(code, "w") as package:
            package.writestr("handler.py", "")
        for address, function in self._of("AWS::Lambda::Function"):
            place = function.get("VpcConfig")
            self.ids[address] = f"lab-{address.replace('.', '-')}"  # Lambda's names have no dots
            lambdas.create_function(
                FunctionName=self.ids[address],
                Runtime="python3.13",
                Role=role,
                Handler="handler.handle",
                Code={"ZipFile": code.getvalue()},
                VpcConfig={
                    "SubnetIds": [self._id(subnet_id) for subnet_id in place["SubnetIds"]],
                    "SecurityGroupIds": [self._id(group_id) for group_id in place["SecurityGroupIds"]],
                }
                if place
                else {},
            )

    def _database(self) -> None:
        rds = boto3.client("rds", REGION)
        for address, subnet_group in self._of("AWS::RDS::DBSubnetGroup"):
            self.ids[address] = "lab"
            rds.create_db_subnet_group(
                DBSubnetGroupName="lab",
                DBSubnetGroupDescription="lab",
                SubnetIds=[self._id(subnet) for subnet in subnet_group["SubnetIds"]],
            )
        for address, cluster in self._of("AWS::RDS::DBCluster"):
            self.ids[address] = "lab-cluster"
            rds.create_db_cluster(
                DBClusterIdentifier=self.ids[address],
                Engine=cluster["Engine"],
                MasterUsername="owner",
                MasterUserPassword="not a secret",
                EnableHttpEndpoint=cluster.get("EnableHttpEndpoint", False),
            )
        for interface in self.network.interfaces:
            if interface.kind is not InterfaceKind.DATABASE:
                continue
            self.ids[interface.owner] = f"lab-{interface.owner.rpartition('.')[2].lower()}"
            groups = [self.ids[group] for group in interface.security_groups]
            zone = next(subnet.zone for subnet in self.network.subnets if subnet.id == interface.subnet)
            # moto: an instance of a cluster has no groups and no subnets; one without a cluster has.
            rds.create_db_instance(
                DBInstanceIdentifier=self.ids[interface.owner],
                DBInstanceClass="db.t4g.medium",
                Engine="postgres",
                AllocatedStorage=20,
                MasterUsername="owner",
                MasterUserPassword="not a secret",
                DBSubnetGroupName="lab",
                VpcSecurityGroupIds=groups,
                AvailabilityZone=zone,
                PubliclyAccessible=interface.public_address is not None,
            )
            # moto: RDS makes no network interfaces.
            made = self.ec2.create_network_interface(
                SubnetId=self.ids[interface.subnet],
                PrivateIpAddress=str(interface.address),
                Groups=groups,
                Description="RDSNetworkInterface",
            )["NetworkInterface"]["NetworkInterfaceId"]
            self.backend.get_network_interface(made).status = "in-use"
            if interface.public_address is not None:
                allocated = self.ec2.allocate_address(Domain="vpc", Address=str(interface.public_address))[
                    "AllocationId"
                ]
                self.ec2.associate_address(AllocationId=allocated, NetworkInterfaceId=made)
