"""What each property of each resource type that is read means for the network: read, without a say, or refused.

Whoever reads a template into a Network (stack/network/from_templates.py) asks here first. A property that is not in the
table is refused, so a new one cannot change a network in silence; a test holds the table against the resource schemas
that cfn-lint ships. Names with a slash are properties within properties.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TAGS = "a name or a label"
STARTS = "how the instance is made, not what it reaches"
RUNS = "how it runs, not where"
LOGS = "what is logged or measured"
STORES = "where and how data is stored"
KEEPS = "backups and upkeep"
SIGNS_IN = "who may sign in, after a connection was let through"
NO_IPV6 = "IPv6 is not modelled"
NO_IPAM = "the range would be known only after the deployment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """Of one type. `only` has the values that are taken and why no others, `irrelevant` names by reason."""

    read: tuple[str, ...] = ()
    irrelevant: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """All of them; one that is here twice is twice in the list."""
        return [*self.read, *(name for names in self.irrelevant.values() for name in names), *self.only, *self.refused]


_RULE = Properties(
    read=("CidrIp", "FromPort", "IpProtocol", "ToPort"),
    irrelevant={TAGS: ("Description",)},
    refused={"CidrIpv6": NO_IPV6},
)
_INGRESS = Properties(
    read=(*_RULE.read, "SourceSecurityGroupId"),
    irrelevant=_RULE.irrelevant,
    refused={
        **_RULE.refused,
        "SourcePrefixListId": "the ranges of a prefix list",
        "SourceSecurityGroupName": "a group by its name",
        "SourceSecurityGroupOwnerId": "a group of another account",
    },
)
_EGRESS = Properties(
    read=(*_RULE.read, "DestinationSecurityGroupId"),
    irrelevant=_RULE.irrelevant,
    refused={**_RULE.refused, "DestinationPrefixListId": "the ranges of a prefix list"},
)
_CARD = Properties(
    read=("AssociatePublicIpAddress", "SubnetId"),
    irrelevant={STARTS: ("DeleteOnTermination", "Description", "EnaSrdSpecification"), TAGS: ("DeviceIndex",)},
    refused={
        "AssociateCarrierIpAddress": "an address of a carrier",
        "Ipv6AddressCount": NO_IPV6,
        "Ipv6Addresses": NO_IPV6,
        "NetworkInterfaceId": "an interface that is a resource of its own",
        "PrivateIpAddress": "an address that the template chooses",
        "PrivateIpAddresses": "an interface with more than one private address",
        "SecondaryPrivateIpAddressCount": "an interface with more than one private address",
    },
)

TABLE: Mapping[str, Properties] = {
    "AWS::AutoScaling::AutoScalingGroup": Properties(
        read=("LaunchTemplate", "VPCZoneIdentifier"),
        irrelevant={
            TAGS: ("AutoScalingGroupName", "Context", "Tags"),
            STARTS: (
                "AvailabilityZoneDistribution",
                "AvailabilityZoneIds",
                "AvailabilityZoneImpairmentPolicy",
                "AvailabilityZones",
                "CapacityRebalance",
                "CapacityReservationSpecification",
                "Cooldown",
                "DefaultInstanceWarmup",
                "DeletionProtection",
                "DesiredCapacity",
                "DesiredCapacityType",
                "HealthCheckGracePeriod",
                "HealthCheckType",
                "InstanceLifecyclePolicy",
                "InstanceMaintenancePolicy",
                "LifecycleHookSpecificationList",
                "MaxInstanceLifetime",
                "MaxSize",
                "MinSize",
                "NewInstancesProtectedFromScaleIn",
                "PlacementGroup",
                "ServiceLinkedRoleARN",
                "SkipZonalShiftValidation",
                "TerminationPolicies",
            ),
            LOGS: ("MetricsCollection", "NotificationConfiguration", "NotificationConfigurations"),
        },
        refused={
            "InstanceId": "a group made after an instance",
            "LaunchConfigurationName": "a launch configuration, which AWS has retired",
            "LoadBalancerNames": "a load balancer",
            "MixedInstancesPolicy": "instances of several launch templates",
            "TargetGroupARNs": "a load balancer",
            "TrafficSources": "a load balancer or VPC Lattice",
        },
    ),
    "AWS::EC2::CustomerGateway": Properties(
        read=("IpAddress",),
        irrelevant={TAGS: ("DeviceName", "Tags"), "how the tunnel is set up": ("BgpAsn", "BgpAsnExtended", "Type")},
        refused={"CertificateArn": "a gateway without a fixed address"},
    ),
    "AWS::EC2::EIP": Properties(
        irrelevant={TAGS: ("Tags",), "which address it is, not whose": ("PublicIpv4Pool", "NetworkBorderGroup")},
        only={"Domain": (("vpc",), "an address outside of VPCs")},
        refused={
            "Address": "an address of a pool that the template names",
            "InstanceId": "an address that an instance has",
            "IpamPoolId": NO_IPAM,
            "TransferAddress": "an address of another account",
        },
    ),
    "AWS::EC2::FlowLog": Properties(
        irrelevant={
            LOGS: (
                "DeliverCrossAccountRole",
                "DeliverLogsPermissionArn",
                "DestinationOptions",
                "LogDestination",
                "LogDestinationType",
                "LogFormat",
                "LogGroupName",
                "MaxAggregationInterval",
                "ResourceId",
                "ResourceType",
                "TrafficType",
            ),
            TAGS: ("TagFieldSpecifications", "Tags"),
        }
    ),
    "AWS::EC2::Instance": Properties(
        read=("LaunchTemplate", "NetworkInterfaces", "SecurityGroupIds", "SubnetId"),
        irrelevant={
            TAGS: ("Tags", "PropagateTagsToVolumeOnCreation"),
            STARTS: (
                "AdditionalInfo",
                "Affinity",
                "AvailabilityZone",
                "BlockDeviceMappings",
                "CpuOptions",
                "CreditSpecification",
                "DisableApiTermination",
                "EbsOptimized",
                "ElasticGpuSpecifications",
                "ElasticInferenceAccelerators",
                "EnclaveOptions",
                "HibernationOptions",
                "HostId",
                "HostResourceGroupArn",
                "IamInstanceProfile",
                "ImageId",
                "InstanceInitiatedShutdownBehavior",
                "InstanceType",
                "KernelId",
                "KeyName",
                "LicenseSpecifications",
                "MetadataOptions",
                "Monitoring",
                "PlacementGroupName",
                "PrivateDnsNameOptions",
                "RamdiskId",
                "SsmAssociations",
                "Tenancy",
                "UserData",
                "Volumes",
            ),
        },
        only={"SourceDestCheck": (("true",), "an instance that passes on what is not for itself")},
        refused={
            "Ipv6AddressCount": NO_IPV6,
            "Ipv6Addresses": NO_IPV6,
            "PrivateIpAddress": "an address that the template chooses",
            "SecurityGroups": "groups by their names",
        },
    ),
    "AWS::EC2::Instance/NetworkInterface": Properties(
        read=(*_CARD.read, "GroupSet"), irrelevant=_CARD.irrelevant, refused=_CARD.refused
    ),
    "AWS::EC2::InternetGateway": Properties(irrelevant={TAGS: ("Tags",)}),
    "AWS::EC2::LaunchTemplate": Properties(
        read=("LaunchTemplateData",),
        irrelevant={TAGS: ("LaunchTemplateName", "TagSpecifications", "VersionDescription")},
    ),
    "AWS::EC2::LaunchTemplate/LaunchTemplateData": Properties(
        read=("NetworkInterfaces", "SecurityGroupIds"),
        irrelevant={
            TAGS: ("TagSpecifications",),
            STARTS: (
                "BlockDeviceMappings",
                "CapacityReservationSpecification",
                "CpuOptions",
                "CreditSpecification",
                "DisableApiStop",
                "DisableApiTermination",
                "EbsOptimized",
                "EnclaveOptions",
                "HibernationOptions",
                "IamInstanceProfile",
                "ImageId",
                "InstanceInitiatedShutdownBehavior",
                "InstanceMarketOptions",
                "InstanceRequirements",
                "InstanceType",
                "KernelId",
                "KeyName",
                "LicenseSpecifications",
                "MaintenanceOptions",
                "MetadataOptions",
                "Monitoring",
                "NetworkPerformanceOptions",
                "Placement",
                "PrivateDnsNameOptions",
                "RamDiskId",
                "UserData",
            ),
        },
        refused={"SecurityGroups": "groups by their names"},
    ),
    "AWS::EC2::LaunchTemplate/NetworkInterface": Properties(
        read=(*_CARD.read, "Groups"),
        irrelevant={
            **_CARD.irrelevant,
            "how the interface works": ("ConnectionTrackingSpecification", "EnaQueueCount", "InterfaceType"),
            TAGS: ("DeviceIndex", "NetworkCardIndex"),
        },
        refused={
            **_CARD.refused,
            "Ipv4PrefixCount": "an interface with ranges of addresses",
            "Ipv4Prefixes": "an interface with ranges of addresses",
            "Ipv6PrefixCount": NO_IPV6,
            "Ipv6Prefixes": NO_IPV6,
            "PrimaryIpv6": NO_IPV6,
        },
    ),
    "AWS::EC2::NatGateway": Properties(
        read=("AllocationId", "AvailabilityMode", "AvailabilityZoneAddresses", "SubnetId"),
        irrelevant={TAGS: ("Tags", "VpcId"), "how it ends": ("MaxDrainDurationSeconds",)},
        only={"ConnectivityType": (("public",), "a private NAT gateway")},
        refused={
            "PrivateIpAddress": "an address that the template chooses",
            "SecondaryAllocationIds": "a zonal NAT gateway with any but one address",
            "SecondaryPrivateIpAddressCount": "a zonal NAT gateway with any but one address",
            "SecondaryPrivateIpAddresses": "a zonal NAT gateway with any but one address",
        },
    ),
    "AWS::EC2::NatGateway/AvailabilityZoneAddress": Properties(
        read=("AllocationIds", "AvailabilityZone"), refused={"AvailabilityZoneId": "a zone that is named by its id"}
    ),
    "AWS::EC2::NetworkAcl": Properties(irrelevant={TAGS: ("Tags", "VpcId")}),
    "AWS::EC2::NetworkAclEntry": Properties(
        read=("CidrBlock", "Egress", "Icmp", "NetworkAclId", "PortRange", "Protocol", "RuleAction", "RuleNumber"),
        refused={"Ipv6CidrBlock": NO_IPV6},
    ),
    "AWS::EC2::Route": Properties(
        read=("DestinationCidrBlock", "GatewayId", "NatGatewayId", "RouteTableId"),
        refused={
            "CarrierGatewayId": "a route to a carrier gateway",
            "CoreNetworkArn": "a route to AWS Cloud WAN",
            "DestinationIpv6CidrBlock": NO_IPV6,
            "DestinationPrefixListId": "the ranges of a prefix list",
            "EgressOnlyInternetGatewayId": NO_IPV6,
            "InstanceId": "a route to an instance",
            "LocalGatewayId": "a route to a local gateway",
            "NetworkInterfaceId": "a route to an interface",
            "OdbNetworkArn": "a route to Oracle Database@AWS",
            "TransitGatewayId": "a route to a transit gateway",
            "VpcEndpointId": "a route to a Gateway Load Balancer endpoint",
            "VpcPeeringConnectionId": "a route to another VPC",
        },
    ),
    "AWS::EC2::RouteTable": Properties(irrelevant={TAGS: ("Tags", "VpcId")}),
    "AWS::EC2::SecurityGroup": Properties(
        read=("SecurityGroupEgress", "SecurityGroupIngress"),
        irrelevant={TAGS: ("GroupDescription", "GroupName", "Tags", "VpcId")},
    ),
    "AWS::EC2::SecurityGroup/Egress": _EGRESS,
    "AWS::EC2::SecurityGroup/Ingress": Properties(
        read=_INGRESS.read, irrelevant=_INGRESS.irrelevant, refused=_INGRESS.refused
    ),
    "AWS::EC2::SecurityGroupEgress": Properties(
        read=(*_EGRESS.read, "GroupId"), irrelevant=_EGRESS.irrelevant, refused=_EGRESS.refused
    ),
    "AWS::EC2::SecurityGroupIngress": Properties(
        read=(*_INGRESS.read, "GroupId"),
        irrelevant=_INGRESS.irrelevant,
        refused={**_INGRESS.refused, "GroupName": "a group by its name"},
    ),
    "AWS::EC2::Subnet": Properties(
        read=("AvailabilityZone", "CidrBlock", "MapPublicIpOnLaunch"),
        irrelevant={TAGS: ("Tags", "VpcId"), "names of instances": ("PrivateDnsNameOptionsOnLaunch",)},
        only={
            "AssignIpv6AddressOnCreation": (("false",), NO_IPV6),
            "EnableDns64": (("false",), NO_IPV6),
            "Ipv6Native": (("false",), NO_IPV6),
        },
        refused={
            "AvailabilityZoneId": "a zone that is named by its id",
            "EnableLniAtDeviceIndex": "a local network interface",
            "Ipv4IpamPoolId": NO_IPAM,
            "Ipv4NetmaskLength": NO_IPAM,
            "Ipv6CidrBlock": NO_IPV6,
            "Ipv6IpamPoolId": NO_IPV6,
            "Ipv6NetmaskLength": NO_IPV6,
            "OutpostArn": "a subnet on an Outpost",
        },
    ),
    "AWS::EC2::SubnetNetworkAclAssociation": Properties(read=("NetworkAclId", "SubnetId")),
    "AWS::EC2::SubnetRouteTableAssociation": Properties(read=("RouteTableId", "SubnetId")),
    "AWS::EC2::VPC": Properties(
        read=("CidrBlock", "EnableDnsHostnames"),
        irrelevant={TAGS: ("Tags",), STARTS: ("InstanceTenancy",)},
        only={"EnableDnsSupport": (("true",), "a VPC without a resolver, where no name is found")},
        refused={
            "Ipv4IpamPoolId": NO_IPAM,
            "Ipv4NetmaskLength": NO_IPAM,
            "VpcEncryptionControl": "what it does to traffic that is not encrypted",
        },
    ),
    "AWS::EC2::VPCEndpoint": Properties(
        read=(
            "PolicyDocument",
            "PrivateDnsEnabled",
            "RouteTableIds",
            "SecurityGroupIds",
            "ServiceName",
            "SubnetIds",
            "VpcEndpointType",
        ),
        irrelevant={TAGS: ("Tags", "VpcId")},
        only={"IpAddressType": (("ipv4",), NO_IPV6)},
        refused={
            "DnsOptions": "which names the endpoint answers to",
            "ResourceConfigurationArn": "an endpoint of VPC Lattice",
            "ServiceNetworkArn": "an endpoint of VPC Lattice",
            "ServiceRegion": "a service in another Region",
        },
    ),
    "AWS::EC2::VPCGatewayAttachment": Properties(
        read=("InternetGatewayId", "VpnGatewayId"), irrelevant={TAGS: ("VpcId",)}
    ),
    "AWS::EC2::VPNConnection": Properties(
        read=("CustomerGatewayId", "StaticRoutesOnly", "VpnGatewayId"),
        irrelevant={
            TAGS: ("Tags",),
            "how the tunnel is set up": (
                "EnableAcceleration",
                "OutsideIpAddressType",
                "PreSharedKeyStorage",
                "TunnelBandwidth",
                "Type",
                "VpnTunnelOptionsSpecifications",
            ),
        },
        only={
            "LocalIpv4NetworkCidr": (("0.0.0.0/0",), "a tunnel for some ranges alone"),
            "RemoteIpv4NetworkCidr": (("0.0.0.0/0",), "a tunnel for some ranges alone"),
            "TunnelInsideIpVersion": (("ipv4",), NO_IPV6),
        },
        refused={
            "LocalIpv6NetworkCidr": NO_IPV6,
            "RemoteIpv6NetworkCidr": NO_IPV6,
            "TransitGatewayId": "a VPN to a transit gateway",
            "TransportTransitGatewayAttachmentId": "a VPN to a transit gateway",
            "VpnConcentratorId": "a VPN concentrator",
        },
    ),
    "AWS::EC2::VPNConnectionRoute": Properties(read=("DestinationCidrBlock", "VpnConnectionId")),
    "AWS::EC2::VPNGateway": Properties(
        irrelevant={TAGS: ("Tags",), "how the tunnel is set up": ("AmazonSideAsn", "Type")}
    ),
    "AWS::EC2::VPNGatewayRoutePropagation": Properties(read=("RouteTableIds", "VpnGatewayId")),
    "AWS::Lambda::Function": Properties(
        read=("VpcConfig",),
        irrelevant={
            TAGS: ("Description", "FunctionName", "Tags"),
            RUNS: (
                "Architectures",
                "Code",
                "CodeSigningConfigArn",
                "DeadLetterConfig",
                "DurableConfig",
                "Environment",
                "EphemeralStorage",
                "FunctionScalingConfig",
                "Handler",
                "ImageConfig",
                "KmsKeyArn",
                "Layers",
                "MemorySize",
                "PackageType",
                "PublishToLatestPublished",
                "RecursiveLoop",
                "ReservedConcurrentExecutions",
                "Role",
                "Runtime",
                "RuntimeManagementConfig",
                "SnapStart",
                "TenancyConfig",
                "Timeout",
            ),
            LOGS: ("LoggingConfig", "TracingConfig"),
        },
        refused={
            "CapacityProviderConfig": "a function on instances, in subnets of their own",
            "FileSystemConfigs": "a file system that it mounts in the VPC",
        },
    ),
    "AWS::Lambda::Function/VpcConfig": Properties(
        read=("SecurityGroupIds", "SubnetIds"), only={"Ipv6AllowedForDualStack": (("false",), NO_IPV6)}
    ),
    "AWS::RDS::DBCluster": Properties(
        read=(
            "DBSubnetGroupName",
            "EnableHttpEndpoint",
            "EnableIAMDatabaseAuthentication",
            "MasterUserPassword",
            "Port",
            "StorageEncrypted",
            "VpcSecurityGroupIds",
        ),
        irrelevant={
            TAGS: ("DBClusterIdentifier", "DBSystemId", "DatabaseName", "Tags"),
            STORES: (
                "AllocatedStorage",
                "ClusterScalabilityType",
                "Iops",
                "KmsKeyId",
                "ScalingConfiguration",
                "ServerlessV2ScalingConfiguration",
                "StorageType",
            ),
            RUNS: (
                "AutoMinorVersionUpgrade",
                "AvailabilityZones",
                "DBClusterInstanceClass",
                "DBClusterParameterGroupName",
                "DBInstanceParameterGroupName",
                "Engine",
                "EngineLifecycleSupport",
                "EngineMode",
                "EngineVersion",
                "EnableLocalWriteForwarding",
            ),
            KEEPS: (
                "BacktrackWindow",
                "BackupRetentionPeriod",
                "CopyTagsToSnapshot",
                "DeleteAutomatedBackups",
                "DeletionProtection",
                "PreferredBackupWindow",
                "PreferredMaintenanceWindow",
                "RestoreToTime",
                "RestoreType",
                "SnapshotIdentifier",
                "SourceDBClusterIdentifier",
                "SourceDbClusterResourceId",
                "SourceRegion",
                "UseLatestRestorableTime",
            ),
            LOGS: (
                "DatabaseInsightsMode",
                "EnableCloudwatchLogsExports",
                "MonitoringInterval",
                "MonitoringRoleArn",
                "PerformanceInsightsEnabled",
                "PerformanceInsightsKmsKeyId",
                "PerformanceInsightsRetentionPeriod",
            ),
            SIGNS_IN: (
                "ManageMasterUserPassword",
                "MasterUserAuthenticationType",
                "MasterUserSecret",
                "MasterUsername",
            ),
        },
        only={"NetworkType": (("ipv4",), NO_IPV6)},
        refused={
            "AssociatedRoles": "roles by which the database itself calls AWS's services",
            "Domain": "a directory that the database joins",
            "DomainIAMRoleName": "a directory that the database joins",
            "EnableGlobalWriteForwarding": "a database in other Regions",
            "GlobalClusterIdentifier": "a database in other Regions",
            "PubliclyAccessible": "a Multi-AZ cluster, which has no instances of its own",
            "ReplicationSourceIdentifier": "a copy of another database",
        },
    ),
    "AWS::RDS::DBInstance": Properties(
        read=("AvailabilityZone", "DBClusterIdentifier", "PubliclyAccessible"),
        irrelevant={
            TAGS: ("DBInstanceIdentifier", "DBName", "DBSystemId", "Tags"),
            STORES: (
                "AdditionalStorageVolumes",
                "AllocatedStorage",
                "DedicatedLogVolume",
                "Iops",
                "KmsKeyId",
                "MaxAllocatedStorage",
                "StorageEncrypted",
                "StorageThroughput",
                "StorageType",
            ),
            RUNS: (
                "AllowMajorVersionUpgrade",
                "ApplyImmediately",
                "AutoMinorVersionUpgrade",
                "CACertificateIdentifier",
                "CertificateRotationRestart",
                "CharacterSetName",
                "DBInstanceClass",
                "DBParameterGroupName",
                "Engine",
                "EngineLifecycleSupport",
                "EngineVersion",
                "LicenseModel",
                "MultiAZ",
                "NcharCharacterSetName",
                "ProcessorFeatures",
                "PromotionTier",
                "Timezone",
                "UseDefaultProcessorFeatures",
            ),
            KEEPS: (
                "AutomaticBackupReplicationKmsKeyId",
                "AutomaticBackupReplicationRegion",
                "AutomaticBackupReplicationRetentionPeriod",
                "BackupRetentionPeriod",
                "BackupTarget",
                "CopyTagsToSnapshot",
                "DBClusterSnapshotIdentifier",
                "DBSnapshotIdentifier",
                "DeleteAutomatedBackups",
                "DeletionProtection",
                "PreferredBackupWindow",
                "PreferredMaintenanceWindow",
                "RestoreTime",
                "SourceDBInstanceAutomatedBackupsArn",
                "SourceDbiResourceId",
                "SourceRegion",
                "UseLatestRestorableTime",
            ),
            LOGS: (
                "DatabaseInsightsMode",
                "EnableCloudwatchLogsExports",
                "EnablePerformanceInsights",
                "MonitoringInterval",
                "MonitoringRoleArn",
                "PerformanceInsightsKMSKeyId",
                "PerformanceInsightsRetentionPeriod",
            ),
            SIGNS_IN: (
                "EnableIAMDatabaseAuthentication",
                "ManageMasterUserPassword",
                "MasterUserAuthenticationType",
                "MasterUserPassword",
                "MasterUserSecret",
                "MasterUsername",
                "TdeCredentialArn",
                "TdeCredentialPassword",
            ),
        },
        only={"NetworkType": (("ipv4",), NO_IPV6)},
        refused={
            "AssociatedRoles": "roles by which the database itself calls AWS's services",
            "CustomIAMInstanceProfile": "RDS Custom, whose instances can be logged in to",
            "DBSecurityGroups": "groups outside of a VPC",
            "DBSubnetGroupName": "an instance with subnets of its own, apart from its cluster",
            "Domain": "a directory that the database joins",
            "DomainAuthSecretArn": "a directory that the database joins",
            "DomainDnsIps": "a directory that the database joins",
            "DomainFqdn": "a directory that the database joins",
            "DomainIAMRoleName": "a directory that the database joins",
            "DomainOu": "a directory that the database joins",
            "OptionGroupName": "options, some of which open ports or call out",
            "Port": "an instance with a port of its own, apart from its cluster",
            "ReplicaMode": "a copy of another database",
            "SourceDBClusterIdentifier": "a copy of another database",
            "SourceDBInstanceIdentifier": "a copy of another database",
            "VPCSecurityGroups": "an instance with groups of its own, apart from its cluster",
        },
    ),
    "AWS::RDS::DBProxy": Properties(
        read=("VpcSecurityGroupIds", "VpcSubnetIds"),
        irrelevant={
            TAGS: ("DBProxyName", "Tags"),
            SIGNS_IN: ("Auth", "DefaultAuthScheme", "RoleArn"),
            RUNS: ("EngineFamily", "IdleClientTimeout", "RequireTLS"),
            LOGS: ("DebugLogging",),
        },
        only={
            "EndpointNetworkType": (("ipv4",), NO_IPV6),
            "TargetConnectionNetworkType": (("ipv4",), NO_IPV6),
        },
    ),
    "AWS::RDS::DBSubnetGroup": Properties(
        read=("SubnetIds",), irrelevant={TAGS: ("DBSubnetGroupDescription", "DBSubnetGroupName", "Tags")}
    ),
}
# Where properties within properties are: (type, property) -> what is read of each.
WITHIN: Mapping[tuple[str, str], str] = {
    ("AWS::EC2::Instance", "NetworkInterfaces"): "AWS::EC2::Instance/NetworkInterface",
    ("AWS::EC2::LaunchTemplate", "LaunchTemplateData"): "AWS::EC2::LaunchTemplate/LaunchTemplateData",
    ("AWS::EC2::LaunchTemplate/LaunchTemplateData", "NetworkInterfaces"): "AWS::EC2::LaunchTemplate/NetworkInterface",
    ("AWS::EC2::NatGateway", "AvailabilityZoneAddresses"): "AWS::EC2::NatGateway/AvailabilityZoneAddress",
    ("AWS::EC2::SecurityGroup", "SecurityGroupEgress"): "AWS::EC2::SecurityGroup/Egress",
    ("AWS::EC2::SecurityGroup", "SecurityGroupIngress"): "AWS::EC2::SecurityGroup/Ingress",
    ("AWS::Lambda::Function", "VpcConfig"): "AWS::Lambda::Function/VpcConfig",
}


def refusals(kind: str, properties: Mapping[str, Any]) -> Iterator[str]:
    """Why a resource of a type, or a part of one, cannot be read; nothing where all of it can."""
    known = TABLE[kind]
    for name, value in properties.items():
        if name in known.refused and value not in (None, "", [], {}):
            yield f"{name}: {known.refused[name]} (it is {value!r})"
        elif name in known.only and str(value).lower() not in known.only[name][0]:
            yield f"{name}: {known.only[name][1]} (it is {value!r}, and {' or '.join(known.only[name][0])} is read)"
        elif name not in known.names():
            yield f"{name}: a property of {kind} that is not known here"
        if (kind, name) in WITHIN:
            yield from (f"{name}: {why}" for part in _parts(value) for why in refusals(WITHIN[kind, name], part))


def _parts(value: Any) -> Iterable[Mapping[str, Any]]:
    parts = value if isinstance(value, list) else [value]
    return (part for part in parts if isinstance(part, Mapping))
