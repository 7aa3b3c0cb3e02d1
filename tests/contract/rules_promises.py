"""What single settings promise, each with its reason: who may do what, what stays, how large, how long, in which order.

The other rules follow connections between things. These say of one setting what it must be, where nothing else would
miss it: a denial that became a permission, a queue that keeps its messages for less, an output that leads elsewhere.
Two stacks have everything between them. Each rule returns its faults in words; none is good.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from db.connection import CONNECT_TIMEOUT_SECONDS
from stack.render import NEEDS, Rendered
from tests.contract.project import APPLICATION, Project
from tests.contract.rules_functions import before

KEY = "arn:aws:kms:us-east-1:555555555555:key/00000000-0000-4000-8000-000000000000"
OPTIONS = {
    "Bastion": "yes",
    "DatabaseProxy": "yes",
    "DatabaseMinCapacity": "0.5",
    "DatabaseReader": "yes",
    "Tracing": "xray",
    "KmsKeyArn": KEY,
    "AlarmEmail": "people@example.com",
    "EventBusName": "orders",
    "AuditBucketName": "ledger",
}
INSIDE = {
    "Topology": "internal-only",
    "AllowedPrivateCidrs": "172.30.0.0/16",
    "AllowedCallerCidrs": "198.51.100.0/24",
    "FlowLogs": "all",
    **NEEDS["on-premises"],
    **OPTIONS,
    "Tracing": "otel",
    "OpenTelemetryLayerArn": "arn:aws:lambda:us-east-1:901920570463:layer:aws-otel-python-arm64-ver-1-32-0:2",
}
OUTSIDE = {
    "Egress": "per-az",
    "ReserveConcurrency": "yes",
    "WebAcl": "yes",
    "DomainName": "sallyport.example.com",
    "CertificateArn": "arn:aws:acm:us-east-1:555555555555:certificate/00000000-0000-4000-8000-000000000000",
    "HostedZoneId": "Z0123456789ABCDEFGHIJ",
    "EgressAllocationIds": "eipalloc-0a1b2c3d4e5f60718,eipalloc-1a1b2c3d4e5f60718",
    **OPTIONS,
}

# ---- Who may do what

type Statement = tuple[str, str, tuple[str, ...], tuple[str, ...], str]  # effect, principal, actions, resources, if
_ACCOUNT = "us-east-1:555555555555"
_OURS = "{'StringEquals': {'aws:PrincipalAccount': '555555555555'}}"
_PLAIN_HTTP = "{'Bool': {'aws:SecureTransport': 'false'}}"
_USERS = f"arn:aws:rds-db:{_ACCOUNT}:dbuser:Database.DatabaseCluster.DBClusterResourceId"
_SESSION_CHANNELS = tuple(
    f"ssmmessages:{verb}{kind}Channel" for verb in ("Create", "Open") for kind in ("Control", "Data")
)
_INTERFACES = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
)


def _allow(*actions: str, on: tuple[str, ...] | str = "*", by: str = "", when: str = "") -> Statement:
    return "Allow", by, tuple(sorted(actions)), (on,) if isinstance(on, str) else tuple(sorted(on)), when


def _deny(*actions: str, on: str, by: str = "", when: str) -> Statement:
    return "Deny", by, tuple(sorted(actions)), (on,), when


def _assumed_by(service: str, when: str = "") -> Statement:
    return "Allow", f"{{'Service': '{service}'}}", ("sts:AssumeRole",), (), when


def _tls_alone(queue: str) -> set[Statement]:
    return {_deny("sqs:*", on=f"{queue}.Arn", by="*", when=_PLAIN_HTTP)}


# All but the roles of functions, which rules_functions.py works out from what their code calls.
STATEMENTS: Mapping[str, set[Statement]] = {
    # CloudFormation's custom resources answer through S3, by addresses that AWS signs.
    "Network.S3Endpoint": {
        _allow("s3:PutObject", on="arn:aws:s3:::cloudformation-custom-resource-response-*/*", by="*"),
        _allow("s3:PutObject", on="arn:aws:s3:::ledger/checkpoints/*", by="*", when=_OURS),
    },
    "Endpoints.SqsEndpoint": {
        _allow(
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:GetQueueUrl",
            "sqs:ReceiveMessage",
            "sqs:SendMessage",
            on=f"arn:aws:sqs:{_ACCOUNT}:*",
            by="*",
            when=_OURS,
        )
    },
    "Endpoints.SecretsManagerEndpoint": {
        _allow(
            "secretsmanager:GetSecretValue",
            "secretsmanager:PutSecretValue",
            on=f"arn:aws:secretsmanager:{_ACCOUNT}:secret:*",
            by="*",
            when=_OURS,
        )
    },
    "Endpoints.EventsEndpoint": {
        _allow("events:PutEvents", on=f"arn:aws:events:{_ACCOUNT}:event-bus/orders", by="*", when=_OURS)
    },
    "Endpoints.XrayEndpoint": {
        _allow(
            "xray:GetSamplingRules",
            "xray:GetSamplingTargets",
            "xray:PutTelemetryRecords",
            "xray:PutTraceSegments",
            by="*",
            when=_OURS,
        )
    },
    "Endpoints.SystemsManagerEndpoint": {_allow("ssm:UpdateInstanceInformation", by="*", when=_OURS)},
    "Endpoints.SessionMessagesEndpoint": {_allow(*_SESSION_CHANNELS, by="*", when=_OURS)},
    # Callers bring bearer tokens and no IAM identity, so nothing can be said of their account.
    "Endpoints.ApiEndpoint": {_allow("execute-api:Invoke", on=f"arn:aws:execute-api:{_ACCOUNT}:*", by="*")},
    "VpcFlowLogs.FlowLogRole": {
        _assumed_by(
            "vpc-flow-logs.amazonaws.com",
            "{'StringEquals': {'aws:SourceAccount': '555555555555'}, "
            f"'ArnLike': {{'aws:SourceArn': 'arn:aws:ec2:{_ACCOUNT}:vpc-flow-log/*'}}}}",
        ),
        _allow(
            "logs:CreateLogStream",
            "logs:DescribeLogGroups",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
            on="VpcFlowLogs.FlowLogGroup.Arn",
        ),
    },
    "Database.ProxyRole": {
        _assumed_by("rds.amazonaws.com"),
        _allow(
            "rds-db:connect",
            on=tuple(f"{_USERS}/sallyport_{name}" for name in ("app", "authorizer", "admin")),
        ),
    },
    # The service may attach functions to the VPC, their code may not.
    "NetworkInterfacePolicy": {
        _allow(*_INTERFACES),
        _deny(*_INTERFACES, on="*", when="{'Null': {'lambda:SourceFunctionArn': 'false'}}"),
    },
    "TracingPolicy": {_allow("xray:PutTelemetryRecords", "xray:PutTraceSegments")},
    "KeyPolicy": {_allow("kms:Decrypt", on=KEY)},
    "DefaultSecurityGroupPolicy": {
        _allow(
            "ec2:RevokeSecurityGroupEgress",
            "ec2:RevokeSecurityGroupIngress",
            on=f"arn:aws:ec2:{_ACCOUNT}:security-group/Network.Vpc.DefaultSecurityGroup",
        )
    },
    "FailedInvocationQueuePolicy": _tls_alone("FailedInvocationQueue"),
    "WakeupQueuePolicy": _tls_alone("WakeupQueue"),
    "DeadLetterQueuePolicy": _tls_alone("DeadLetterQueue"),
    "ApiGatewayLogWriterRole": {_assumed_by("apigateway.amazonaws.com")},
    "BastionHost.BastionRole": {
        _assumed_by("ec2.amazonaws.com"),
        _allow("ssm:UpdateInstanceInformation", *_SESSION_CHANNELS),
    },
    # Forward a port and read; no shell, and nobody else's session.
    "BastionHost.PeoplePolicy": {
        _allow(
            "ssm:StartSession",
            on=(
                f"arn:aws:ec2:{_ACCOUNT}:instance/BastionHost.Bastion",
                "arn:aws:ssm:us-east-1::document/AWS-StartPortForwardingSessionToRemoteHost",
            ),
            when="{'BoolIfExists': {'ssm:SessionDocumentAccessCheck': 'true'}}",
        ),
        _allow("ssm:ResumeSession", "ssm:TerminateSession", on=f"arn:aws:ssm:{_ACCOUNT}:session/${{aws:userid}}-*"),
        _allow("rds-db:connect", on=f"{_USERS}/sallyport_readonly"),
        _allow("cloudformation:DescribeStacks", on=f"arn:aws:cloudformation:{_ACCOUNT}:stack/sallyport/*"),
    },
    "Observability.AlarmTopicPolicy": {
        _allow(
            "sns:Publish",
            on="Observability.AlarmTopic",
            by="{'Service': 'cloudwatch.amazonaws.com'}",
            when="{'StringEquals': {'aws:SourceAccount': '555555555555'}, "
            f"'ArnLike': {{'aws:SourceArn': 'arn:aws:cloudwatch:{_ACCOUNT}:alarm:*'}}}}",
        ),
        _allow(
            "sns:Publish",
            on="Observability.AlarmTopic",
            by="{'Service': 'events.rds.amazonaws.com'}",
            when="{'StringEquals': {'aws:SourceAccount': '555555555555'}, "
            f"'ArnLike': {{'aws:SourceArn': 'arn:aws:rds:{_ACCOUNT}:*'}}}}",
        ),
        _deny("sns:Publish", on="Observability.AlarmTopic", by="*", when=_PLAIN_HTTP),
    },
    "Api": {
        _allow("execute-api:Invoke", on="execute-api:/*", by="*"),
        _deny(
            "execute-api:Invoke",
            on="execute-api:/*",
            by="*",
            when="{'StringNotEquals': {'aws:SourceVpce': 'Endpoints.ApiEndpoint'}}",
        ),
        _deny(
            "execute-api:Invoke",
            on="execute-api:/*",
            by="*",
            when="{'NotIpAddress': {'aws:VpcSourceIp': ['198.51.100.0/24']}}",
        ),
    },
}


def every_statement_allows_what_it_promises(project: Project) -> list[str]:
    """Effect, principal, actions, resources and conditions of every policy, and no policy without a promise."""
    of_functions = {
        str(function["Properties"]["Role"]).removesuffix(".Arn") for function in project.functions().values()
    }
    found = {
        name: {_statement(statement) for statement in _statements(resource["Properties"])}
        for name, resource in _everything(project).items()
    }
    found = {name: statements for name, statements in found.items() if statements and name not in of_functions}
    return [
        f"{name}: {sorted(found.get(name, set()) ^ STATEMENTS.get(name, set()))}"
        for name in sorted(found.keys() | STATEMENTS.keys())
        if found.get(name) != STATEMENTS.get(name)
    ]


def _statements(value: Any) -> Iterator[Mapping[str, Any]]:
    parts: list[Any] = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    for part in parts:
        yield from _statements(part)
    if isinstance(value, dict) and isinstance(value.get("Statement"), list):
        yield from value["Statement"]


def _statement(given: Mapping[str, Any]) -> Statement:
    actions, resources = (_listed(given.get(key)) for key in ("Action", "Resource"))
    when = str(given["Condition"]) if "Condition" in given else ""
    return given["Effect"], str(given.get("Principal", "")), actions, resources, when


def _listed(value: Any) -> tuple[str, ...]:
    return tuple(sorted(str(element) for element in (value if isinstance(value, list) else [value] if value else [])))


# ---- How large, how long, how often

# Memory in MiB, seconds, calls at once (the parameter's default where it is one), subnets, and why.
FUNCTIONS: Mapping[str, tuple[int, int, str, str, str]] = {
    "ApiFunction": (1024, 29, "40", "AB", "CPU comes with memory and callers wait; API Gateway gives up after 29 s"),
    "AttemptFunction": (512, 45, "5", "AB", "ten exchanges of 4 MiB; a partner's 25 s, and 5 s each for four others"),
    "AuthorizeFunction": (512, 10, "20", "AB", "callers wait for its cold start; a resume is answered with 503"),
    "AdminFunction": (256, 60, "1", "AB", "operators wait out a resume of the database"),
    "MigrateFunction": (256, 300, "1", "AB", "a resume, and a long index build"),
    "NetworkResourcesFunction": (256, 180, "1", "", "two minutes until IAM knows a right, one for EC2 and the answer"),
    "CheckEgressA.Function": (256, 30, "1", "A", "8 s for the echo service, 2 s each for two calls of SSM"),
    "CheckEgressB.Function": (256, 30, "1", "B", "8 s for the echo service, 2 s each for two calls of SSM"),
}


def every_function_has_the_room_and_the_time_that_it_needs(project: Project) -> list[str]:
    """And no more: memory is paid for, and time outlasts who waits. Without ReserveConcurrency nothing is reserved."""
    faults = []
    made = project.application(**OUTSIDE).of_type("AWS::Lambda::Function")
    for name, resource in made.items():
        own = resource["Properties"]
        subnets = "".join(str(subnet)[-1] for subnet in own.get("VpcConfig", {}).get("SubnetIds", ()))
        found = (own["MemorySize"], own["Timeout"], str(own.get("ReservedConcurrentExecutions")), subnets)
        faults += [] if found == FUNCTIONS.get(name, ())[:4] else [f"{name} has {found}"]
    unreserved = project.functions(ReserveConcurrency="no")
    faults += [f"{name} reserves" for name, function in unreserved.items() if _reserves(function)]
    return faults + [f"there is no {name}" for name in FUNCTIONS.keys() - made.keys()]


def _reserves(function: Mapping[str, Any]) -> bool:
    return "ReservedConcurrentExecutions" in function["Properties"]


_DAY = 24 * 60 * 60
_SUITES: Mapping[str, list[Any]] = {
    "IKEVersions": ["ikev2"],
    **{f"Phase{phase}EncryptionAlgorithms": ["AES256", "AES256-GCM-16"] for phase in (1, 2)},
    **{f"Phase{phase}IntegrityAlgorithms": ["SHA2-256", "SHA2-384", "SHA2-512"] for phase in (1, 2)},
    **{f"Phase{phase}DHGroupNumbers": [14, 19, 20, 21] for phase in (1, 2)},
}
_TUNNEL = {name: [{"Value": value} for value in values] for name, values in _SUITES.items()}
_CURRENT_TLS = "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09"
_MAINTENANCE = "sun:03:30-sun:04:30"
_INSTANCE = {
    "Engine": ("aurora-postgresql", "the cluster's"),
    "DBClusterIdentifier": ("Database.DatabaseCluster", "one cluster"),
    "DBInstanceClass": ("db.serverless", "capacity follows the load"),
    "PreferredMaintenanceWindow": (_MAINTENANCE, "the cluster's, so that both go down once"),
    "AutoMinorVersionUpgrade": (False, "EngineVersion says what runs, or the next deployment would try to go back"),
}
_INTERFACE_ENDPOINT = {
    "VpcEndpointType": ("Interface", "an address in each zone"),
    "VpcId": ("Network.Vpc", "of this VPC"),
    "SubnetIds": (["Network.PrivateSubnetA", "Network.PrivateSubnetB"], "one zone may fail"),
}
_AWS_ENDPOINT = {**_INTERFACE_ENDPOINT, "PrivateDnsEnabled": (True, "the SDK's usual names lead to it")}
_CUSTOM = {"ServiceToken": ("NetworkResourcesFunction.Arn", "it makes them")}
_TWO_RUNS_OF_THE_NETWORK_FUNCTION = 2 * 180 + 60 + 60

# Of a resource, by the names that lead to a setting: what it must be, and why.
SETTINGS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "WakeupQueue": {
        "VisibilityTimeout": (6 * 45, "six time-outs of the attempt function, as Lambda asks of an SQS source"),
        "MessageRetentionPeriod": (4 * _DAY, "no wake-up waits for more than 15 minutes before it is renewed"),
        "RedrivePolicy.maxReceiveCount": (5, "what a passing fault may cost; then people must look"),
    },
    "DeadLetterQueue": {"MessageRetentionPeriod": (14 * _DAY, "the most there is, for people to look")},
    "FailedInvocationQueue": {"MessageRetentionPeriod": (14 * _DAY, "the most there is, for people to look")},
    "SealKey": {
        "GenerateSecretString.PasswordLength": (64, "letters and digits: 380 bits, where 256 are needed"),
        "GenerateSecretString.ExcludePunctuation": (True, "letters and digits, which the length counts on"),
    },
    "EgressAddresses": {
        **_CUSTOM,
        "ServiceTimeout": (_TWO_RUNS_OF_THE_NETWORK_FUNCTION, "two runs, the minute between them, one to spare"),
    },
    "ZoneIds": {**_CUSTOM, "ServiceTimeout": (_TWO_RUNS_OF_THE_NETWORK_FUNCTION, "as above")},
    "DefaultSecurityGroup": {**_CUSTOM, "ServiceTimeout": (_TWO_RUNS_OF_THE_NETWORK_FUNCTION, "as above")},
    "Migration": {
        "ServiceToken": ("MigrateFunction.Arn", "it brings the schema up to date"),
        "ServiceTimeout": (2 * 300 + 120, "two runs, the minute between them, one to spare"),
    },
    "NetworkResourcesFunctionEventInvokeConfig": {
        "MaximumRetryAttempts": (1, "two runs, then CloudFormation gives up"),
        "MaximumEventAgeInSeconds": (_TWO_RUNS_OF_THE_NETWORK_FUNCTION, "CloudFormation waits no longer"),
    },
    "MigrateFunctionEventInvokeConfig": {
        "MaximumRetryAttempts": (1, "two runs, then CloudFormation gives up"),
        "MaximumEventAgeInSeconds": (600, "CloudFormation waits for 720 s"),
    },
    "CheckEgressA.FunctionEventInvokeConfig": {"MaximumEventAgeInSeconds": (600, "the next check is soon enough")},
    "CheckEgressB.FunctionEventInvokeConfig": {"MaximumEventAgeInSeconds": (600, "the next check is soon enough")},
    "ApiFunctionAliaslive": {"FunctionName": ("ApiFunction", "API Gateway calls it by its alias")},
    "Api": {
        "EndpointAccessMode": ("BASIC", "this security policy wants a mode to be named"),
        "SecurityPolicy": (_CURRENT_TLS, "TLS 1.2 or 1.3; the default still takes 1.0"),
    },
    "ApiStage": {
        "MethodSettings.0.MetricsEnabled": (False, "metrics of single methods cost, and nothing reads them"),
        "MethodSettings.0.ThrottlingRateLimit": ("100", "ThrottleRate"),
        "MethodSettings.0.ThrottlingBurstLimit": ("200", "ThrottleBurst"),
        "AccessLogSetting.DestinationArn": ("ApiAccessLogGroup.Arn", "an alarm reads it there"),
    },
    "ApiGatewayAccount": {"CloudWatchRoleArn": ("ApiGatewayLogWriterRole.Arn", "it may write logs")},
    "ApiGatewayLogWriterRole": {
        "ManagedPolicyArns": (
            ["arn:aws:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"],
            "AWS's own, since the role serves every API of the Region",
        )
    },
    "Database.DatabaseCluster": {
        "Engine": ("aurora-postgresql", "the migrations are PostgreSQL's"),
        "EngineVersion": ("17.7", "the long-term one"),
        "EngineMode": ("provisioned", "what Serverless v2 is called here"),
        "Port": (5432, "groups and access lists open this one"),
        "DBSubnetGroupName": ("Database.DatabaseSubnetGroup", "subnets of the database and of nothing else"),
        "VpcSecurityGroupIds": (["Network.DatabaseSecurityGroup.GroupId"], "one group says who may connect"),
        "MasterUsername": ("sallyport_owner", "owns the schema"),
        "DatabaseName": ("sallyport", "what functions and people connect to"),
        "PreferredMaintenanceWindow": (_MAINTENANCE, "no backup window overlaps it"),
        "ServerlessV2ScalingConfiguration.MinCapacity": ("0.5", "DatabaseMinCapacity"),
        "ServerlessV2ScalingConfiguration.MaxCapacity": ("2", "DatabaseMaxCapacity"),
        "BackupRetentionPeriod": ("1", "the least there is, outside prod"),
        "PreferredBackupWindow": ("02:00-03:00", "DatabaseBackupWindow"),
    },
    "Database.DatabaseInstance": {
        **_INSTANCE,
        "PromotionTier": (0, "takes over first"),
        "AvailabilityZone": ("us-east-1a", "the first zone"),
    },
    "Database.DatabaseReaderInstance": {
        **_INSTANCE,
        "PromotionTier": (1, "in tiers 0 and 1 a reader has the writer's capacity, and pauses with it"),
        "AvailabilityZone": ("us-east-1b", "another zone than the writer's"),
    },
    "Database.DatabaseProxy": {
        "EngineFamily": ("POSTGRESQL", "the cluster's"),
        "RoleArn": ("Database.ProxyRole.Arn", "may connect as the functions' roles"),
        "VpcSubnetIds": (["Network.PrivateSubnetA", "Network.PrivateSubnetB"], "the database's admit 5432 from there"),
        "IdleClientTimeout": (300, "idle_session_timeout of src/db/connection.py"),
    },
    "Database.ProxyTargetGroup": {
        "DBProxyName": ("Database.DatabaseProxy", "its own"),
        "TargetGroupName": ("default", "the only one there is"),
        "DBClusterIdentifiers": (["Database.DatabaseCluster"], "the one cluster"),
        "ConnectionPoolConfigurationInfo": (
            {
                "MaxConnectionsPercent": 85,
                "MaxIdleConnectionsPercent": 10,
                "ConnectionBorrowTimeout": CONNECT_TIMEOUT_SECONDS,
            },
            "the rest is for those who go past it; who waits for a connection gives up when its client does",
        ),
    },
    "BastionHost.Bastion": {
        "InstanceType": ("t4g.nano", "the smallest for arm64"),
        "CreditSpecification.CPUCredits": ("standard", "slower when it is busy, instead of dearer"),
        "IamInstanceProfile": ("BastionHost.BastionProfile", "its agent's rights"),
        "SubnetId": ("Network.PrivateSubnetA", "hands out no public address"),
        "SecurityGroupIds": (["Network.BastionSecurityGroup.GroupId"], "nothing comes in"),
        "MetadataOptions": (
            {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "IMDSv2 alone, and for the instance itself",
        ),
        "EbsOptimized": (True, "costs nothing with this type"),
        "BlockDeviceMappings": (
            [
                {
                    "DeviceName": "/dev/xvda",
                    "Ebs": {"Encrypted": True, "VolumeType": "gp3", "VolumeSize": 8, "DeleteOnTermination": True},
                }
            ],
            "the image's own size, encrypted, gone with the instance",
        ),
        "PropagateTagsToVolumeOnCreation": (True, "the volume shows whose it is"),
    },
    "BastionHost.BastionProfile": {"Roles": (["BastionHost.BastionRole"], "its agent's rights")},
    **{
        f"Endpoints.{name}": {
            **_AWS_ENDPOINT,
            "ServiceName": (f"com.amazonaws.us-east-1.{service}", "the service that is called"),
            "SecurityGroupIds": (["Network.EndpointSecurityGroup.GroupId"], "says who may call"),
        }
        for name, service in {
            "SqsEndpoint": "sqs",
            "SecretsManagerEndpoint": "secretsmanager",
            "EventsEndpoint": "events",
            "XrayEndpoint": "xray",
            "SystemsManagerEndpoint": "ssm",
            "SessionMessagesEndpoint": "ssmmessages",
        }.items()
    },
    "Endpoints.ApiEndpoint": {
        **_INTERFACE_ENDPOINT,
        "ServiceName": ("com.amazonaws.us-east-1.execute-api", "the API's"),
        "PrivateDnsEnabled": (False, "or no other API of API Gateway could be reached from this VPC"),
        "SecurityGroupIds": (
            ["Network.ApiEndpointSecurityGroup.GroupId", "Endpoints.NamedCallersSecurityGroup.GroupId"],
            "those of the VPC and the VPN, and named callers",
        ),
    },
    "VpcFlowLogs.FlowLog": {
        "ResourceType": ("VPC", "every interface in it"),
        "ResourceId": ("Network.Vpc", "of this VPC"),
        "TrafficType": ("ALL", "FlowLogs=all"),
        "LogDestinationType": ("cloud-watch-logs", "with the other logs"),
        "LogGroupName": ("VpcFlowLogs.FlowLogGroup", "which ends"),
        "DeliverLogsPermissionArn": ("VpcFlowLogs.FlowLogRole.Arn", "may write there"),
        "MaxAggregationInterval": (600, "EC2 knows 60 and 600; a minute costs up to ten times as many lines"),
    },
    "Vpn.VpnGateway": {"Type": ("ipsec.1", "the only one there is")},
    "Vpn.CustomerGateway": {"BgpAsn": ("65000", "CustomerGatewayAsn"), "IpAddress": ("198.51.100.7", "the other end")},
    "Vpn.VpnConnection": {
        "StaticRoutesOnly": (False, "routes are learnt, unless VpnRouting says otherwise"),
        "VpnTunnelOptionsSpecifications": ([_TUNNEL, _TUNNEL], "no IKEv1, no SHA-1, no group below 14, in either one"),
    },
    "Edge.WebAccessControlList": {
        "Scope": ("REGIONAL", "the stage's, and not CloudFront's"),
        "DefaultAction": ({"Allow": {}}, "what no rule blocks is let through"),
        "VisibilityConfig.CloudWatchMetricsEnabled": (True, "an alarm reads them"),
        "Rules.0.Statement.RateBasedStatement.EvaluationWindowSec": (300, "WebAclRate counts five minutes"),
        "Rules.0.Statement.RateBasedStatement.AggregateKeyType": ("IP", "each source address for itself"),
        **{f"Rules.{place}.Priority": (place, "in the order as they stand") for place in range(4)},
        **{f"Rules.{place}.VisibilityConfig.CloudWatchMetricsEnabled": (True, "says which rule") for place in range(4)},
        **{f"Rules.{place}.OverrideAction": ({"None": {}}, "AWS's own verdict counts") for place in (1, 2, 3)},
    },
    "Edge.WebAccessControlListLogging": {
        "ResourceArn": ("Edge.WebAccessControlList.Arn", "this firewall's"),
        "LoggingFilter": (
            {
                "DefaultBehavior": "DROP",
                "Filters": [
                    {
                        "Behavior": "KEEP",
                        "Requirement": "MEETS_ANY",
                        "Conditions": [{"ActionCondition": {"Action": "BLOCK"}}],
                    }
                ],
            },
            "what was let through is in the access log",
        ),
    },
    "Edge.CustomDomain": {
        "EndpointAccessMode": ("BASIC", "this security policy wants a mode to be named"),
        "SecurityPolicy": (_CURRENT_TLS, "the API's own"),
    },
    "Edge.CustomDomainRecord": {
        "Type": ("A", "an alias to addresses"),
        "Name": ("sallyport.example.com", "DomainName"),
        "HostedZoneId": ("Z0123456789ABCDEFGHIJ", "HostedZoneId"),
        "AliasTarget": (
            {
                "DNSName": "Edge.CustomDomain.RegionalDomainName",
                "HostedZoneId": "Edge.CustomDomain.RegionalHostedZoneId",
            },
            "what API Gateway made",
        ),
    },
    "Observability.AlarmTopic": {"DisplayName": ("Sallyport dev", "says which stage a mail is about")},
    "Observability.AlarmTopicPolicy": {"Topics": (["Observability.AlarmTopic"], "its own")},
    "Observability.DatabaseClusterEvents": {
        "SnsTopicArn": ("Observability.AlarmTopic", "where all news goes"),
        "SourceType": ("db-cluster", "failovers are the cluster's"),
        "SourceIds": (["Database.DatabaseCluster"], "of this one alone"),
        "EventCategories": (["failover", "failure", "maintenance", "notification"], "what somebody may have to do"),
    },
    "Observability.DatabaseInstanceEvents": {
        "SnsTopicArn": ("Observability.AlarmTopic", "where all news goes"),
        "SourceType": ("db-instance", "storage and restarts are the instance's"),
        "SourceIds": (["Database.DatabaseInstance", "Database.DatabaseReaderInstance"], "of these alone"),
        "EventCategories": (
            ["availability", "failure", "low storage", "maintenance", "notification", "recovery"],
            "what somebody may have to do",
        ),
    },
    "Observability.AlarmEmailSubscription": {
        "Protocol": ("email", "AlarmEmail"),
        "Endpoint": ("people@example.com", "AlarmEmail"),
        "TopicArn": ("Observability.AlarmTopic", "all alarms go there"),
    },
}


def every_setting_is_as_its_reason_says(project: Project) -> list[str]:
    """The table above, over the two stacks."""
    made = _everything(project)
    return [f"there is no {name}" for name in SETTINGS if name not in made] + [
        f"{name}: {path} is {_at(made[name]['Properties'], path)}, not {value} ({reason})"
        for name, settings in SETTINGS.items()
        if name in made
        for path, (value, reason) in settings.items()
        if not _same(_at(made[name]["Properties"], path), value)
    ]


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(value, list):
            value = value[int(name)] if int(name) < len(value) else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def _same(found: Any, wanted: Any) -> bool:
    """False is not 0 here, and a text not a number."""
    return bool(found == wanted) and isinstance(found, bool) is isinstance(wanted, bool)


# ---- What functions are told, beside what the other rules follow

_PUBLIC_ROOTS = "/etc/pki/tls/certs/ca-bundle.crt"
TOLD: Mapping[str, str] = {
    "DATABASE_PORT": "Database.DatabaseCluster.Endpoint.Port",
    "DATABASE_NAME": "sallyport",
    "ALLOWED_PRIVATE_CIDRS": "172.30.0.0/16",
    "ALLOWED_PORTS": "80,443,8080,8443",
    "CA_BUNDLE": _PUBLIC_ROOTS,
    "LEASE_SECONDS": "55",
    "ATTEMPT_CONCURRENCY": "5",
    "POWERTOOLS_SERVICE_NAME": "sallyport",
    "POWERTOOLS_METRICS_NAMESPACE": "Sallyport",
    "EGRESS_RESULTS_PATH": "/sallyport/sallyport/egress",
}


def every_function_is_told_the_same(project: Project) -> list[str]:
    """Ports, roots, ranges, names and the lease; the echo service where there is internet access, and only there."""
    faults = []
    for parameters, echo in ((INSIDE, ""), (OUTSIDE, "https://checkip.amazonaws.com/")):
        for name, function in project.functions(**parameters).items():
            variables = function["Properties"]["Environment"]["Variables"]
            ranges = str(parameters.get("AllowedPrivateCidrs", ""))
            wanted = {**TOLD, "ALLOWED_PRIVATE_CIDRS": ranges, "EGRESS_ECHO_URL": echo}
            faults += [
                f"{name}: {variable} is {variables[variable]}, not {value}"
                for variable, value in wanted.items()
                if variable in variables and variables[variable] != value
            ]
    return faults


# ---- In which order

# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html: what finds no place waits and is tried again, for
# longer than CloudFormation does.
MADE_BY_THE_NETWORK_FUNCTION = {"EgressAddresses", "ZoneIds", "DefaultSecurityGroup"}


def what_one_function_makes_is_made_in_turn(project: Project) -> list[str]:
    """Its one place at a time is taken by one of them: of any two, one waits for the other."""
    resources = project.translated()["Resources"]
    made = sorted(
        name
        for name, resource in resources.items()
        if "NetworkResourcesFunction" in str(_at(resource, "Properties.ServiceToken"))
    )
    earlier = {name: before(resources, name) for name in made}
    return [f"there are only {made}" for _ in range(len(made) < len(MADE_BY_THE_NETWORK_FUNCTION))] + [
        f"{first} and {other} may be made at once"
        for first, other in combinations(made, 2)
        if first not in earlier[other] and other not in earlier[first]
    ]


# ---- What comes out

OUTPUTS: Mapping[str, str] = {  # inside; what differs outside is below
    "ApiUrl": "https://Api-Endpoints.ApiEndpoint.execute-api.us-east-1.amazonaws.com/dev",
    "VpcId": "Network.Vpc",
    "PrivateRouteTableIds": "Network.PrivateRouteTableA,Network.PrivateRouteTableB",
    "VpnConnectionId": "Vpn.VpnConnection",
    "BastionInstanceId": "BastionHost.Bastion",
    "PeoplePolicyArn": "BastionHost.PeoplePolicy",
    "AdminFunctionName": "AdminFunction",
    "WakeupQueueUrl": "WakeupQueue",
    "DeadLetterQueueUrl": "DeadLetterQueue",
    "DatabaseEndpoint": "Database.DatabaseCluster.Endpoint.Address",
    "DatabasePort": "Database.DatabaseCluster.Endpoint.Port",
    "DatabaseName": "sallyport",
    "AlarmTopicArn": "Observability.AlarmTopic",
    "DashboardName": "Observability.Dashboard",
}
_ADDRESSES = "EgressAddresses.AddressA,EgressAddresses.AddressB"
OUTPUTS_OUTSIDE: Mapping[str, str] = {
    **{name: value for name, value in OUTPUTS.items() if name != "VpnConnectionId"},
    "ApiUrl": "https://sallyport.example.com",
    "CustomDomainTarget": "Edge.CustomDomain.RegionalDomainName",
    "FixedAddresses": _ADDRESSES,
    "EgressAddresses": "us-east-1a=EgressAddresses.AddressA,us-east-1b=EgressAddresses.AddressB",
    "EgressAllocationIds": OUTSIDE["EgressAllocationIds"],
}


def every_output_leads_where_it_says(project: Project) -> list[str]:
    """All that people and programs read of the application, and where it exists."""
    faults = []
    for parameters, wanted in ((INSIDE, OUTPUTS), (OUTSIDE, OUTPUTS_OUTSIDE)):
        outputs = project.application(**parameters).outputs
        own = {name: str(value) for name, value in outputs.items() if "." not in name}
        faults += [
            f"{name} is {own.get(name)}, not {wanted.get(name)}"
            for name in sorted(own.keys() | wanted.keys())
            if own.get(name) != wanted.get(name)
        ]
    return faults


def every_nested_output_is_read(project: Project) -> list[str]:
    """By the application: what people and programs read is the application's own."""
    return [
        f"{path}: nobody reads {name}"
        for path in project.texts
        if path != APPLICATION
        for name in project.written(path).get("Outputs", {})
        if f".Outputs.{name}" not in project.texts[APPLICATION]
    ]


def every_nested_output_is_of_the_zone_in_its_name(project: Project) -> list[str]:
    """What is called A or B leads to what is called so too."""
    return [
        f"{path}: {name} leads to {target}"
        for path in project.texts
        if path != APPLICATION
        for name, output in project.written(path).get("Outputs", {}).items()
        if (zone := re.search(r"[a-z]([AB])(Id)?$", name))
        for target in _targets(output["Value"])
        if target[-1] in "AB" and target[-1] != zone[1]
    ]


def _targets(value: Any) -> Iterator[str]:
    """The logical ids that a value refers to, attributes left out."""
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": str(text)}:
            yield text.partition(".")[0]
        case {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case dict():
            for inner in value.values():
                yield from _targets(inner)
        case list():
            for inner in value:
                yield from _targets(inner)


def every_address_is_one_for_vpcs(project: Project) -> list[str]:
    """Said in the template, where EC2's own default depends on the account."""
    return [
        f"{path}: {name} does not say Domain: vpc"
        for path in project.texts
        for name, made in project.written(path).get("Resources", {}).items()
        if made["Type"] == "AWS::EC2::EIP" and made["Properties"].get("Domain") != "vpc"
    ]


def _everything(project: Project) -> Mapping[str, dict[str, Any]]:
    """Every resource that there can be, by its address; of both stacks' the inner one's."""
    inside: Rendered = project.application(**INSIDE)
    return {**project.application(**OUTSIDE).resources, **inside.resources}


RULES = [
    every_statement_allows_what_it_promises,
    every_function_has_the_room_and_the_time_that_it_needs,
    every_setting_is_as_its_reason_says,
    every_function_is_told_the_same,
    what_one_function_makes_is_made_in_turn,
    every_output_leads_where_it_says,
    every_nested_output_is_read,
    every_nested_output_is_of_the_zone_in_its_name,
    every_address_is_one_for_vpcs,
]
